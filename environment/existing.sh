# Caffe that is already there (sourced by setup.sh): .caffe holds two small
# scripts that start it, so sys.executable stays that Python's own.

active_caffe_python() { # print the first python on the PATH that has everything
    local name path
    for name in python python3; do
        path=$(command -v "$name" 2>/dev/null) || continue
        case $path in "$PREFIX"/*) continue ;; esac
        if "$path" -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("caffe"))' 2>/dev/null; then
            if "$path" "$HERE/check.py" >>"$LOG" 2>&1; then
                printf '%s\n' "$path"
                return 0
            fi
            say "$path has a caffe module but not all that is needed ($(tail -n 1 "$LOG")); looking elsewhere."
        fi
    done
    return 1
}

caffe_command() { # print the solver that belongs to PYTHON
    local candidate
    for candidate in "${CAFFE_COMMAND:-}" "$(dirname "$1")/caffe" \
        "$("$1" -c 'import caffe, os; print(os.path.join(os.path.dirname(caffe.__file__), "../../build/tools/caffe"))' 2>/dev/null)" \
        "$(command -v caffe 2>/dev/null)"; do
        case $candidate in "$PREFIX"/*) continue ;; esac
        if [ -n "$candidate" ] && [ -x "$candidate" ] && [ -f "$candidate" ]; then
            (cd "$(dirname "$candidate")" && printf '%s/%s\n' "$(pwd -P)" "$(basename "$candidate")")
            return 0
        fi
    done
    return 1
}

launcher() { # launcher FILE PROGRAM: start PROGRAM with the search paths of now
    {
        echo '#!/bin/sh'
        [ -z "${PYTHONPATH:-}" ] || printf "PYTHONPATH=%q\${PYTHONPATH:+:\$PYTHONPATH}; export PYTHONPATH\n" "$PYTHONPATH"
        [ -z "${LD_LIBRARY_PATH:-}" ] || printf "LD_LIBRARY_PATH=%q\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}; export LD_LIBRARY_PATH\n" "$LD_LIBRARY_PATH"
        printf 'exec %q "$@"\n' "$2"
    } >"$1"
    chmod +x "$1"
}

from_existing() { # from_existing PYTHON
    local given=$1 python command
    python=$(command -v "$given" 2>/dev/null) && [ -f "$python" ] && [ -x "$python" ] ||
        fail "CAFFE_PYTHON is '$given', and there is no such program; give the path of a Python that imports caffe."
    python=$(cd "$(dirname "$python")" && pwd -P)/$(basename "$python")
    case $python in "$PREFIX"/*) fail "CAFFE_PYTHON is .caffe's own Python; give another, or none." ;; esac
    "$python" "$HERE/check.py" >"$LOG" 2>&1 || fail "$given cannot be used: $(tail -n 1 "$LOG")"
    command=$(caffe_command "$python") ||
        fail "$given imports caffe, but no caffe command line was found beside it; give its path in CAFFE_COMMAND."
    rm -rf "$PARTIAL"
    mkdir -p "$PARTIAL/bin"
    launcher "$PARTIAL/bin/python" "$python"
    launcher "$PARTIAL/bin/caffe" "$command"
    install_partial
    finish existing "$given"
}
