# Caffe from conda-forge by environment.yml (sourced by setup.sh).

conda_command() { # print the first of the three that is on the PATH
    local name
    for name in micromamba mamba conda; do
        if command -v "$name" 2>/dev/null; then return 0; fi
    done
    return 1
}

from_conda() {
    local conda action
    conda=$(conda_command) ||
        fail "neither micromamba, mamba nor conda is on the PATH; install one, or leave CAFFE_FROM unset."
    action="env create"
    case $conda in *micromamba) action=create ;; esac
    need_space "$ROOT" 4000
    say "conda-forge by $conda: several minutes; what it says goes to $LOG"
    # conda writes its prefix into the files, so this is built in place and
    # only the stamp, written last, makes it an environment.
    rm -rf "$PREFIX" "$PARTIAL"
    # shellcheck disable=SC2086
    CONDA_ALWAYS_YES=true MAMBA_ALWAYS_YES=true "$conda" $action -p "$PREFIX" -f "$ROOT/environment.yml" \
        </dev/null >"$LOG" 2>&1 ||
        fail "$conda could not make the environment, see $LOG; try again, or CAFFE_FROM=debian."
    check "$PREFIX/bin/python" ||
        fail "conda's environment is incomplete: $(last_words)"
    importable
    finish conda
}
