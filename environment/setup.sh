#!/usr/bin/env bash
# Puts real Caffe 1.0 into .caffe, without root and without touching anything
# outside the checkout but a download cache:
#
#   .caffe/bin/python   imports caffe, numpy, h5py, onnxruntime and the rest
#   .caffe/bin/caffe    Caffe's command line
#
# Three ways, tried in this order (CAFFE_FROM=existing|conda|debian forces one):
#
#   existing  CAFFE_PYTHON=/path/to/python, or the first python on the PATH,
#             where that imports caffe and the listed packages
#   conda     micromamba, mamba or conda on the PATH: environment.yml
#   debian    Debian 11's packages, unpacked, and pinned wheels from PyPI;
#             DEBIAN_MIRROR=URL where apt's own sources have no Debian 11
#
# Run it again at any time: it resumes what was interrupted, and does nothing
# where .caffe is already whole and built by these very files.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
ROOT=$(dirname "$HERE")
PREFIX=$ROOT/.caffe
PARTIAL=$ROOT/.caffe.partial        # never taken for an environment
CACHE=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/pycaffe-tools
LOG=$CACHE/setup.log                # what the tools underneath said

say() { printf 'environment: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The stamp is written last, so an environment without it is not whole.
STAMP=$PREFIX/stamp
fingerprint() { (cd "$HERE" && cat ./*.sh check.py ./*.lock ../environment.yml | sha256sum | cut -d' ' -f1); }
stamped() { sed -n "s/^$1: //p" "$STAMP" 2>/dev/null; }
up_to_date() {
    [ -x "$PREFIX/bin/python" ] && [ "$(stamped files)" = "$(fingerprint)" ] &&
        { [ -z "${CAFFE_FROM:-}" ] || [ "$CAFFE_FROM" = "$(stamped from)" ]; } &&
        { [ -z "${CAFFE_PYTHON:-}" ] || [ "$CAFFE_PYTHON" = "$(stamped python)" ]; }
}
finish() { # finish FROM [PYTHON]
    { echo "files: $(fingerprint)"; echo "from: $1"; echo "python: ${2:-}"; } >"$PREFIX/stamp.partial"
    mv "$PREFIX/stamp.partial" "$STAMP"
    say "ready: $("$PREFIX/bin/python" "$HERE/check.py" --summary), in .caffe"
}
install_partial() { # the finished $PARTIAL becomes .caffe in one rename
    rm -rf "$PARTIAL.old"
    if [ -e "$PREFIX" ]; then mv "$PREFIX" "$PARTIAL.old"; fi
    mv "$PARTIAL" "$PREFIX"
}
need_space() { # need_space DIRECTORY MEGABYTES
    local free; free=$(df -Pm "$1" 2>/dev/null | awk 'NR==2 {print $4}')
    [ -z "$free" ] || [ "$free" -ge "$2" ] ||
        fail "$1 has $free MB free and $2 MB are needed; free some space and run this again."
}

if up_to_date; then exit 0; fi
case ${CAFFE_FROM:-} in '' | existing | conda | debian) ;;
*) fail "CAFFE_FROM is '$CAFFE_FROM'; it may be existing, conda or debian." ;; esac

mkdir -p "$CACHE" 2>/dev/null && [ -w "$CACHE" ] ||
    fail "the download cache $CACHE cannot be written; set XDG_CACHE_HOME to a directory that can."
[ -w "$ROOT" ] || fail "$ROOT cannot be written; use a checkout of your own."
: >"$LOG"

# One at a time: the lock is this very file, so nothing is left behind.
exec 9<"$HERE/setup.sh"
if command -v flock >/dev/null && ! flock -n 9 2>/dev/null; then
    say "another set-up of this checkout is running; waiting for it."
    flock 9
    if up_to_date; then exit 0; fi
fi
rm -rf "$PARTIAL.old"

. "$HERE/existing.sh"
. "$HERE/conda.sh"
. "$HERE/debian.sh"

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
