# Caffe that is already there (sourced by setup.sh): .caffe holds two small
# scripts that start it, so sys.executable stays that Python's own.

active_caffe_python() { # print the first python on the PATH that has everything
    local name path status
    for name in python python3; do
        path=$(command -v "$name" 2>/dev/null) || continue
        case $path in "$PREFIX"/*) continue ;; esac
        status=0
        check "$path" || status=$?
        case $status in
        0)
            printf '%s\n' "$path"
            return 0
            ;;
        2) say "not used: $(last_words)" ;; # Caffe without the rest; 1 is the usual case, no Caffe
        esac
    done
    return 1
}

caffe_command() { # caffe_command PYTHON: print the solver that belongs to it
    local built candidate
    built=$("$1" -c 'import caffe, os; print(os.path.join(os.path.dirname(caffe.__file__), "../../build/tools/caffe"))' 2>/dev/null || true)
    for candidate in "${CAFFE_COMMAND:-}" "$(dirname "$1")/caffe" "$built" "$(command -v caffe 2>/dev/null || true)"; do
        case $candidate in "$PREFIX"/*) continue ;; esac
        if [ -f "$candidate" ] && [ -x "$candidate" ]; then
            absolute "$candidate"
            return 0
        fi
    done
    return 1
}

absolute() { printf '%s/%s\n' "$(cd "$(dirname "$1")" && pwd -P)" "$(basename "$1")"; }

launcher() { # launcher FILE PROGRAM: a script that starts PROGRAM with the search paths of now
    local name
    {
        echo '#!/usr/bin/env bash'
        for name in PYTHONPATH LD_LIBRARY_PATH; do
            [ -z "${!name:-}" ] || printf 'export %s=%q"${%s:+:$%s}"\n' "$name" "${!name}" "$name" "$name"
        done
        printf 'exec %q "$@"\n' "$2"
    } >"$1"
    chmod +x "$1"
}

from_existing() { # from_existing PYTHON
    local given=$1 python command
    python=$(command -v "$given" 2>/dev/null) && [ -f "$python" ] && [ -x "$python" ] ||
        fail "CAFFE_PYTHON is '$given', and there is no such program; give the path of a Python that imports caffe."
    python=$(absolute "$python")
    case $python in "$PREFIX"/*) fail "CAFFE_PYTHON is .caffe's own Python; give another, or none." ;; esac
    check "$python" || fail "CAFFE_PYTHON cannot be used: $(last_words)"
    command=$(caffe_command "$python") ||
        fail "$given imports caffe, but no caffe command line was found beside it; give its path in CAFFE_COMMAND."
    rm -rf "$PARTIAL"
    mkdir -p "$PARTIAL/bin"
    # The tools can be imported from any folder.
    PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} launcher "$PARTIAL/bin/python" "$python"
    launcher "$PARTIAL/bin/caffe" "$command"
    install_partial
    finish existing "$given"
}
