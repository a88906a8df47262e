# Caffe from Debian 11 without root (sourced by setup.sh).  debian-11.lock names
# every file with its SHA-256; apt fetches them with a state of its own, from a
# signed package list, and they are unpacked, never installed.

DEBS=$CACHE/debian-11
WHEELS=$CACHE/wheels-py39

from_debian() {
    check_machine
    fetch_debs
    unpack_debs
    install_wheels
    check "$PARTIAL/bin/python" ||
        fail "the new environment does not work: $(last_words)"
    "$PARTIAL/bin/caffe" --version >>"$LOG" 2>&1 ||
        fail "the new caffe command line does not start: $(last_words)"
    install_partial
    importable
    finish debian
}

check_machine() {
    local system glibc
    system=$(uname -sm)
    [ "$system" = "Linux x86_64" ] ||
        fail "this machine is $system, and Debian's Caffe packages are used on Linux x86_64; set CAFFE_PYTHON to a Python that imports caffe."
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | awk '{print $2}' || true)
    [ -n "$glibc" ] && [ "$(printf '2.31\n%s\n' "$glibc" | sort -V | head -n 1)" = 2.31 ] ||
        fail "the C library is ${glibc:+glibc }${glibc:-not glibc}, and Debian's Caffe needs glibc 2.31 or newer; use conda, or set CAFFE_PYTHON."
    need_space "$ROOT" 1200
    need_space "$CACHE" 400
}

locked() { grep -v '^#' "$HERE/debian-11.lock"; }

missing_debs() { # print the locked files that the cache lacks or holds damaged
    mkdir -p "$DEBS"
    (cd "$DEBS" && locked | sha256sum --check 2>/dev/null || true) | sed -n 's/: FAILED.*//p'
}

# An apt that reads the machine's proxies and certificates, and neither reads
# nor writes any other of its state.
private_apt() { # private_apt MIRROR: write $APT and a sources.list for MIRROR
    APT=$CACHE/apt
    rm -rf "$APT"
    mkdir -p "$APT/lists/partial" "$APT/archives/partial" "$APT/none"
    : >"$APT/status"
    echo "deb [arch=amd64 signed-by=$KEYRING] $1 bullseye main" >"$APT/sources.list"
    {
        apt-config dump 2>/dev/null | grep -E '^Acquire::(http|https|ftp|Retries|Check-|Max-|Proxy)' || true
        cat <<EOF
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Dir::Cache "$APT";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "$APT/none";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$APT/none";
Dir::Etc::sourcelist "$APT/sources.list";
Dir::Etc::sourceparts "$APT/none";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "$APT/none";
Dir::State "$APT";
Dir::State::status "$APT/status";
EOF
    } >"$APT/apt.conf"
}

mirrors() { # print the archives to ask, likeliest first
    local all
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        printf '%s\n' "${DEBIAN_MIRROR%/}"
        return
    fi
    # apt reads .list and .sources files alike and prints what it would fetch.
    all=$(apt-get --print-uris update 2>/dev/null | sed -n "s#^'\(.*\)/dists/.*/InRelease'.*#\1#p" || true)
    { grep '/debian$' <<<"$all" || true; printf '%s\n' "$all"; } | awk '!seen[$0]++'
}

fetch_debs() {
    local missing mirror found='' name file specs=()
    missing=$(missing_debs)
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        fail "apt-get and dpkg-deb are needed to fetch Debian's Caffe and are not here; put conda or micromamba on the PATH, or set CAFFE_PYTHON to a Python that imports caffe."
    fi
    KEYRING=${DEBIAN_KEYRING:-}
    for file in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
        [ -n "$KEYRING" ] || [ ! -r "$file" ] || KEYRING=$file
    done
    [ -r "${KEYRING:-/nonexistent}" ] ||
        fail "Debian's signing keys are not here; install the package debian-archive-keyring, or give its keyring file in DEBIAN_KEYRING."
    for mirror in $(mirrors); do
        private_apt "$mirror"
        if APT_CONFIG=$APT/apt.conf apt-get -q update >>"$LOG" 2>&1 &&
            APT_CONFIG=$APT/apt.conf apt-cache show caffe >>"$LOG" 2>&1; then
            found=$mirror
            break
        fi
    done
    if [ -z "$found" ]; then
        if grep -qE 'NO_PUBKEY|EXPKEYSIG|BADSIG|is not signed|signature' "$LOG"; then
            fail "the Debian 11 package list has no valid signature; update the package debian-archive-keyring, or try another DEBIAN_MIRROR (details in $LOG)."
        fi
        fail "no Debian 11 (bullseye) package list could be fetched; check the network, or set DEBIAN_MIRROR to an archive that has bullseye (details in $LOG)."
    fi
    say "fetching $(wc -l <<<"$missing") Debian 11 packages (71 MB in all)"
    for file in $missing; do
        rm -f "$DEBS/$file"
        name=${file%%_*}
        file=${file#*_}
        file=${file%_*}
        specs+=("$name=${file//%3a/:}")
    done
    (cd "$DEBS" && APT_CONFIG=$APT/apt.conf apt-get -q download "${specs[@]}" >>"$LOG" 2>&1) ||
        if grep -qE "^E: (Version|Unable to locate|Can't find)" "$LOG"; then
            fail "the archive $found has other versions than debian-11.lock names; try another DEBIAN_MIRROR (details in $LOG)."
        else
            fail "fetching the Debian packages broke off; check the network and run this again, it goes on where it stopped (details in $LOG)."
        fi
    missing=$(missing_debs)
    [ -z "$missing" ] ||
        fail "$(head -n 1 <<<"$missing") is not what debian-11.lock says; try another DEBIAN_MIRROR (details in $LOG)."
    rm -rf "$APT"
}

unpack_debs() {
    local file lib=lib/x86_64-linux-gnu tree=$PARTIAL/unpacked
    say "unpacking Caffe and its Python"
    rm -rf "$PARTIAL"
    mkdir -p "$tree" "$PARTIAL/bin"
    for file in $(locked | awk '{print $2}'); do
        dpkg-deb --fsys-tarfile "$DEBS/$file" 2>>"$LOG" |
            tar -xf - -C "$tree" --no-same-owner --exclude=./usr/share/{doc,man,locale} 2>>"$LOG" ||
            fail "$file could not be unpacked; see whether the disk is full, and run this again (details in $LOG)."
    done
    mv "$tree/usr/lib" "$PARTIAL/lib"
    [ ! -d "$tree/lib" ] || [ -L "$tree/lib" ] || cp -a "$tree/lib/." "$PARTIAL/lib/"
    mv "$tree/usr/bin/python3.9" "$tree/usr/bin/caffe" "$PARTIAL/bin/"
    # Debian's sitecustomize is a link into /etc, another Python's.
    rm -rf "$PARTIAL/lib/python3.9/sitecustomize.py" "$PARTIAL/lib/valgrind"
    # The two programs find their libraries from where they stand (RPATH also
    # holds for what those libraries load), so nothing has to be set in the
    # environment, nothing is inherited by other programs, and the checkout
    # may be moved.  OpenBLAS comes first: libblas.so.3 is its.
    for file in python3.9 caffe; do
        LD_LIBRARY_PATH=$PARTIAL/$lib "$tree/usr/bin/patchelf" --force-rpath --set-rpath \
            "\$ORIGIN/../$lib/openblas-pthread:\$ORIGIN/../$lib:\$ORIGIN/../lib" "$PARTIAL/bin/$file" >>"$LOG" 2>&1 ||
            fail "patchelf could not set the library path of $file; see $LOG."
    done
    for file in python python3; do ln -s python3.9 "$PARTIAL/bin/$file"; done
    # Python finds its prefix from its own place too; this keeps ~/.local out.
    echo "include-system-site-packages = false" >"$PARTIAL/pyvenv.cfg"
}

run_pip() { # run_pip PIP ARGUMENTS: PIP is a wheel, or several joined by ":"
    # The machine's pip configuration holds, except where it would install elsewhere.
    env -u PYTHONHOME -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_NO_INPUT=1 \
        PIP_CACHE_DIR="$CACHE/pip" PYTHONPATH="$1" \
        "$PARTIAL/bin/python" -m pip --disable-pip-version-check "${@:2}" >>"$LOG" 2>&1
}

install_from_cache() { # without the network; fails where the cache lacks a wheel
    local pip=$WHEELS/pip-24.0-py3-none-any.whl
    [ -f "$pip" ] && grep -q "^pip==.*$(sha256sum "$pip" | cut -c1-64)" "$LOCK" &&
        run_pip "$pip" install --no-index --find-links "$WHEELS" --no-deps --require-hashes \
            --no-warn-script-location -r "$LOCK"
}

install_wheels() {
    LOCK=$HERE/requirements-py39.lock
    mkdir -p "$WHEELS"
    say "installing the Python packages"
    if ! install_from_cache; then
        say "fetching $(grep -c == "$LOCK") Python packages (220 MB in all)"
        : >"$LOG"
        # Debian's own pip fetches (it would install into the user's home), the locked one installs.
        if ! run_pip "$(printf '%s:' "$PARTIAL"/unpacked/usr/share/python-wheels/*.whl)" \
            download --no-deps --require-hashes --only-binary :all: --dest "$WHEELS" -r "$LOCK"; then
            if grep -q 'CERTIFICATE_VERIFY_FAILED' "$LOG"; then
                fail "pip cannot verify the package index's certificate; install the package ca-certificates, or set PIP_CERT to a certificate bundle."
            fi
            fail "pip could not fetch the Python packages; check the network and pip's configuration and run this again (details in $LOG)."
        fi
        install_from_cache ||
            fail "pip could not install the Python packages; see whether the disk is full (details in $LOG)."
    fi
    # The command scripts would name the directory of the build; python -m runs them all.
    # pip's own cache served to resume an interrupted download; the wheels themselves are kept.
    rm -rf "$PARTIAL/local/bin" "$PARTIAL/unpacked" "$CACHE/pip"
}
