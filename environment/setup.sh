#!/usr/bin/env bash
# Puts real Caffe 1.0 into .caffe, without root and without touching anything
# outside the checkout but a download cache:
#
#   .caffe/bin/python   imports caffe, numpy, h5py, onnxruntime and the rest
#   .caffe/bin/caffe    Caffe's command line
#
# and builds the kernels of the native engine (pycaffe_tools/engines/native)
# into that cache, with the system's compiler or one from PyPI.
#
# Three ways, tried in this order (CAFFE_FROM=existing|conda|debian forces one):
#
#   existing  CAFFE_PYTHON=/path/to/python, or the first python on the PATH,
#             where that imports caffe and the listed packages; its solver is
#             looked for beside it and on the PATH, or CAFFE_COMMAND names it
#   conda     micromamba, mamba or conda on the PATH: environment.yml
#   debian    Debian 11's packages, unpacked, and pinned wheels from PyPI;
#             DEBIAN_MIRROR=URL where apt's own sources have no Debian 11,
#             DEBIAN_KEYRING=FILE where Debian's keys lie elsewhere
#
# Run it again at any time: it resumes what was interrupted, and does nothing
# where .caffe is already whole and was built by these very files.
set -euo pipefail
export LC_ALL=C # what the tools print is read below

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
ROOT=$(dirname "$HERE")
PREFIX=$ROOT/.caffe
PARTIAL=$ROOT/.caffe.partial # never taken for an environment
STAMP=$PREFIX/stamp          # written last: an environment without it is not whole

say() { printf 'environment: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

fingerprint() { (cd "$HERE" && cat ./*.sh check.py ./*.lock ../environment.yml | sha256sum | cut -d' ' -f1); }
stamped() { sed -n "s/^$1: //p" "$STAMP" 2>/dev/null || true; }
up_to_date() {
    [ "$(stamped files)" = "$(fingerprint)" ] &&
        { [ -z "${CAFFE_FROM:-}" ] || [ "$CAFFE_FROM" = "$(stamped from)" ]; } &&
        { [ -z "${CAFFE_PYTHON:-}" ] || [ "$CAFFE_PYTHON" = "$(stamped python)" ]; } &&
        "$PREFIX/bin/python" --version >/dev/null 2>&1
}
finish() { # finish FROM [PYTHON]: the environment in place is whole
    { echo "files: $(fingerprint)" && echo "from: $1" && echo "python: ${2:-}"; } >"$PREFIX/stamp.partial"
    mv "$PREFIX/stamp.partial" "$STAMP"
    say "ready in .caffe: $("$PREFIX/bin/python" "$HERE/check.py" --summary)"
}
importable() { # the tools can be imported wherever .caffe/bin/python is started; the checkout may be moved
    "$PREFIX/bin/python" -c 'import os, site, sys
root, prefix = sys.argv[1:]
for place in site.getsitepackages():
    if os.path.realpath(place).startswith(prefix + os.sep) and os.path.isdir(place):
        with open(os.path.join(place, "pycaffe_tools.pth"), "w") as stream:
            stream.write(os.path.relpath(root, place) + "\n")
        break' "$ROOT" "$PREFIX"
}
install_partial() { # the finished .caffe.partial becomes .caffe
    rm -rf "$PARTIAL.old"
    if [ -e "$PREFIX" ]; then mv "$PREFIX" "$PARTIAL.old"; fi
    mv "$PARTIAL" "$PREFIX"
}
need_space() { # need_space DIRECTORY MEGABYTES
    local free
    free=$(df -Pm "$1" 2>/dev/null | awk 'NR==2 {print $4}')
    [ -z "$free" ] || [ "$free" -ge "$2" ] ||
        fail "$1 has $free MB free and $2 MB are needed; free some space and run this again."
}
check() { # check PYTHON: has it everything? (the outer redirection is for what bash says of a crash)
    { "$1" "$HERE/check.py" >"$LOG" 2>&1; } 2>/dev/null
}
last_words() { # of the program that wrote to the log
    local words
    words=$(tail -n 1 "$LOG")
    printf '%s' "${words:-it ended without a word, as a crash does.}"
}

build_native() { (cd "$ROOT" && "$PREFIX/bin/python" -m pycaffe_tools.engines.native.build "$@" 2>&1); }
native_engine() { # native_engine [fetch]: kernels for segmentation; it goes without them, only slower
    local said zig=$CACHE/ziglang
    [ -f "$ROOT/pycaffe_tools/engines/native/build.py" ] || return 0
    if [ -d "$zig" ]; then export PYTHONPATH=$zig${PYTHONPATH:+:$PYTHONPATH}; fi
    if ! said=$(build_native) && [ "${1:-}" = fetch ] && [ ! -d "$zig" ]; then
        say "no C++ compiler works here; fetching one (ziglang, 101 MB)"
        rm -rf "$zig.partial"
        if "$PREFIX/bin/python" -m pip install --no-deps --require-hashes --target "$zig.partial" \
            -r "$HERE/requirements-native.lock" >>"$LOG" 2>&1 && mv "$zig.partial" "$zig"; then
            said=$(PYTHONPATH=$zig${PYTHONPATH:+:$PYTHONPATH} build_native) || true
        fi
    fi
    [ -z "$said" ] || say "$(tail -n 1 <<<"$said")"
}
caffe_loops() { # those that training spends its time in, for this processor; it goes without them, only slower
    [ -f "$ROOT/pycaffe_tools/nets/running/loops/loops.cpp" ] || return 0
    local said
    said=$(cd "$ROOT" && "$PREFIX/bin/python" -m pycaffe_tools.nets.running.loops 2>>"$LOG") && [ -n "$said" ] && say "$said" || true
}
blas_kernels() { # those of Caffe's BLAS that are fastest here, and right; measured once, for all commands
    [ -f "$ROOT/pycaffe_tools/base/host/blas.py" ] && [ -z "${OPENBLAS_CORETYPE:-}" ] || return 0
    local said
    said=$(cd "$ROOT" && "$PREFIX/bin/python" -m pycaffe_tools.base.host.blas choose 2>>"$LOG") && say "$said" || true
}

CACHE=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/pycaffe-tools
if up_to_date; then
    native_engine
    caffe_loops
    touch -c "$STAMP" # for make, which compares times
    exit 0
fi
case ${CAFFE_FROM:-} in '' | existing | conda | debian) ;;
*) fail "CAFFE_FROM is '$CAFFE_FROM'; it may be existing, conda or debian." ;; esac

mkdir -p "$CACHE" 2>/dev/null && [ -w "$CACHE" ] ||
    fail "the download cache $CACHE cannot be written; set XDG_CACHE_HOME to a directory that can."
[ -w "$ROOT" ] || fail "$ROOT cannot be written; use a checkout of your own."
CACHE=$(cd "$CACHE" && pwd -P)
LOG=$CACHE/setup.log # what the programs underneath say

# One at a time, in this checkout (the lock is this very file) and in the cache.
exec 8<"$HERE/setup.sh" 9>>"$CACHE/lock"
for lock in 8 9; do
    if command -v flock >/dev/null && ! flock -n $lock; then
        say "another set-up is running; waiting for it."
        flock $lock
    fi
done
if up_to_date; then exit 0; fi
: >"$LOG"
rm -rf "$PARTIAL.old"

# shellcheck source=/dev/null
. "$HERE/existing.sh"
# shellcheck source=/dev/null
. "$HERE/conda.sh"
# shellcheck source=/dev/null
. "$HERE/debian.sh"

# What .caffe came from once, it comes from again when these files change.
if [ -z "${CAFFE_FROM:-}${CAFFE_PYTHON:-}" ]; then
    CAFFE_FROM=$(stamped from)
    CAFFE_PYTHON=$(stamped python)
fi
case ${CAFFE_FROM:-auto} in
existing) from_existing "${CAFFE_PYTHON:-python3}" ;;
conda) from_conda ;;
debian) from_debian ;;
auto)
    if [ -n "${CAFFE_PYTHON:-}" ]; then
        from_existing "$CAFFE_PYTHON"
    elif active=$(active_caffe_python); then
        from_existing "$active"
    elif conda_command >/dev/null; then
        from_conda
    else
        from_debian
    fi
    ;;
esac
rm -rf "$PARTIAL" "$PARTIAL.old"
native_engine fetch
caffe_loops
blas_kernels
