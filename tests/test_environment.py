"""The environment: real Caffe where there is one, and what setup.sh says where it cannot make one."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / "environment"
LOCK = ENVIRONMENT / "requirements-py39.lock"
DEBS = ENVIRONMENT / "debian-11.lock"


def entries(lock: Path) -> list[str]:
    return [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]


# --- the environment that runs these tests -----------------------------------------------------------------------


def in_child(program: str, *arguments: object) -> str:
    """What a child process of this Python prints; an abort of Caffe ends the child and fails the test."""
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.caffe
def test_this_python_has_caffe_and_every_package_the_toolkit_uses():
    done = subprocess.run([sys.executable, str(ENVIRONMENT / "check.py"), "--summary"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.match(r"Caffe 1\.\d", done.stdout)


@pytest.mark.caffe
def test_child_processes_of_sys_executable_get_the_same_caffe():
    import caffe

    assert in_child("import caffe; print(caffe.__file__)").strip() == caffe.__file__


@pytest.mark.caffe
def test_the_tools_are_found_from_any_folder(tmp_path):
    """Where the data lies, the checkout is not; the Python of `make env` knows the tools there too."""
    python = ROOT / ".caffe" / "bin" / "python"
    if not python.is_file():
        pytest.skip("not in the environment of `make env`")
    done = subprocess.run([str(python), "-m", "pycaffe_tools.evaluate", "--help"], cwd=str(tmp_path), capture_output=True,
                          text=True, env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"})
    assert done.returncode == 0 and "Compare the probability map" in done.stdout, done.stderr


def test_caffe_command_line_prints_version_1():
    command = ROOT / ".caffe" / "bin" / "caffe"
    if not command.exists():
        pytest.skip("this Python is not the one that `make env` made")
    done = subprocess.run([str(command), "--version"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "caffe version 1.0" in done.stdout + done.stderr


@pytest.mark.caffe
def test_caffe_reads_hdf5_that_h5py_wrote_and_multiplies_it_by_its_blas(tmp_path):
    h5py = pytest.importorskip("h5py")
    import numpy as np

    rng = np.random.default_rng(0)
    data = rng.standard_normal((6, 1, 4, 5)).astype(np.float32)
    weights = rng.standard_normal((3, 20)).astype(np.float32)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["data"], file["label"] = data, np.arange(6, dtype=np.float32)
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'data.h5'}\n")
    np.save(tmp_path / "weights.npy", weights)
    (tmp_path / "net.prototxt").write_text(f"""
        layer {{ name: "input" type: "HDF5Data" top: "data" top: "label"
                 hdf5_data_param {{ source: "{tmp_path / 'list.txt'}" batch_size: 6 }} }}
        layer {{ name: "product" type: "InnerProduct" bottom: "data" top: "product"
                 inner_product_param {{ num_output: 3 bias_term: false }} }}""")
    in_child("""
import os, sys
os.environ["GLOG_minloglevel"] = "2"
import caffe, h5py, numpy as np
os.chdir(sys.argv[1])
net = caffe.Net("net.prototxt", caffe.TEST)
net.params["product"][0].data[...] = np.load("weights.npy")
net.forward()
np.savez("out.npz", **{name: blob.data for name, blob in net.blobs.items()})
""", tmp_path)
    out = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(out["data"], data)
    np.testing.assert_array_equal(out["label"], np.arange(6))
    expected = data.reshape(6, 20).astype(np.float64) @ weights.astype(np.float64).T
    np.testing.assert_allclose(out["product"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.caffe
def test_protobuf_parses_and_serialises_a_caffe_net():
    from caffe.proto import caffe_pb2
    from google.protobuf import text_format

    net = text_format.Parse('layer { name: "c1" type: "Convolution" convolution_param { num_output: 48 kernel_size: 5 } }',
                            caffe_pb2.NetParameter())
    again = caffe_pb2.NetParameter.FromString(net.SerializeToString())
    assert again.layer[0].convolution_param.num_output == 48
    assert list(again.layer[0].convolution_param.kernel_size) == [5]


# --- what is pinned ----------------------------------------------------------------------------------------------


def test_python_lock_pins_every_package_by_version_and_hash():
    assert entries(LOCK)
    for entry in entries(LOCK):
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]* --hash=sha256:[0-9a-f]{64}", entry), entry


def test_python_lock_holds_everything_that_is_asked_for():
    locked = {entry.split("==")[0] for entry in entries(LOCK)}
    asked = {re.match(r"[A-Za-z0-9-]+", entry).group() for entry in entries(ENVIRONMENT / "requirements-py39.in")}
    assert {"numpy", "protobuf", "h5py", "tifffile", "click", "pytest", "scipy", "matplotlib", "onnx",
            "onnxruntime", "threadpoolctl"} <= asked <= locked


def conda_specifications() -> list[str]:
    """The packages that environment.yml asks of conda, as they stand there."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8").split("dependencies:\n")[1]
    return re.findall(r"^  - ([^:\n]+)$", text, re.MULTILINE)


def test_environment_yml_is_understood_by_a_strict_parser():
    rattler = pytest.importorskip("rattler", reason="needs py-rattler, a reader of conda's package specifications")
    read = {}
    for specification in conda_specifications():
        found = rattler.MatchSpec(specification, strict=True)
        read[found.name.normalized] = found
    assert {"python", "caffe", "libblas", "numpy", "protobuf", "threadpoolctl", "pip"} <= set(read)
    # A comparison that the parser took for a name, or a build for a version, would restrict nothing.
    assert str(read["libblas"].build) == "*openblas" and str(read["libblas"].version) == "*"
    for version, allowed in (("3.12.4", True), ("3.20.1", True), ("3.20.2", False), ("3.21.0", False)):
        assert rattler.VersionSpec(str(read["protobuf"].version)).matches(rattler.Version(version)) == allowed, version


def test_debian_lock_pins_every_file_by_hash_and_leaves_the_c_library_out():
    names = []
    for entry in entries(DEBS):
        match = re.fullmatch(r"[0-9a-f]{64}  ([a-z0-9.+-]+)_([^_ ]+)_(amd64|all)\.deb", entry)
        assert match, entry
        names.append(match.group(1))
    assert {"caffe", "libcaffe1", "python3-caffe", "libopenblas0-pthread", "python3.9-minimal"} <= set(names)
    assert "libc6" not in names
    assert len(names) == len(set(names))


@pytest.mark.caffe
def test_installed_versions_are_the_locked_ones():
    stamp = ROOT / ".caffe" / "stamp"
    if not (stamp.exists() and "from: debian" in stamp.read_text() and Path(sys.prefix) == ROOT / ".caffe"):
        pytest.skip("this Python does not come from the lock file")
    from importlib.metadata import version

    for entry in entries(LOCK):
        name, pinned = entry.split(" ")[0].split("==")
        assert version(name) == pinned, name


# --- setup.sh on machines that lack something: one sentence, and nothing that looks like an environment -------------


class Checkout:
    """A copy of the set-up scripts with a PATH, a cache and programs of its own."""

    def __init__(self, folder: Path):
        self.root = folder / "check out"  # setup.sh must bear a space
        shutil.copytree(ENVIRONMENT, self.root / "environment", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "environment.yml", self.root)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.prefix = self.root / ".caffe"
        for name in ("awk bash basename cat chmod cp cut df dirname env flock getconf grep head ln mkdir mv rm sed "
                     "sha256sum sort tail tar touch tr uname wc").split():
            if shutil.which(name):
                (self.bin / name).symlink_to(shutil.which(name))
        # The machine that these tests describe, whatever the one they run on.
        self.program("uname", 'echo "Linux x86_64"')
        self.program("getconf", "echo glibc 2.36")
        self.environment = {"PATH": str(self.bin), "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}

    def program(self, name: str, script: str) -> Path:
        path = self.bin / name
        if path.is_symlink():
            path.unlink()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def set_up(self, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(["bash", str(self.root / "environment" / "setup.sh")], capture_output=True, text=True,
                              cwd="/", env={**self.environment, **variables})

    def refusal(self, **variables: str) -> str:
        """The one sentence that a failing set-up ends in."""
        done = self.set_up(**variables)
        assert done.returncode == 1, done.stderr
        assert done.stdout == ""
        assert not (self.prefix / "stamp").exists()
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("environment: ") and lines[0].endswith(".")
        return lines[0]

    def python_with_stubs(self, *packages: str) -> Path:
        """A Python that has nothing but its standard library and these empty packages, caffe among them."""
        stubs = self.root.parent / "stubs"
        for package in packages:
            folder = stubs.joinpath(*package.split("."))
            folder.mkdir(parents=True)
            (folder / "__init__.py").write_text("__version__ = '1.0'\nNet = NetParameter = dict\n")
        return self.program("stub-python", f'PYTHONPATH="{stubs}" exec "{sys.executable}" -S "$@"')


EVERYTHING = ("caffe", "caffe.proto", "caffe.proto.caffe_pb2", "numpy", "google", "google.protobuf", "h5py", "tifffile",
              "click", "pytest", "scipy", "matplotlib", "onnx", "onnxruntime", "threadpoolctl")


@pytest.fixture()
def checkout(tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("the set-up scripts are for Linux")
    return Checkout(tmp_path)


@pytest.fixture()
def debian(checkout):
    """A checkout on a machine with apt, whose apt-get fails as it does without a network."""
    checkout.program("dpkg-deb", "exit 1")
    checkout.program("apt-config", "exit 0")
    checkout.program("apt-cache", "exit 0")
    checkout.program("apt-get", 'echo "E: Some index files failed to download."; exit 100')
    keyring = checkout.root.parent / "keys.gpg"
    keyring.touch()
    checkout.environment.update(DEBIAN_KEYRING=str(keyring), DEBIAN_MIRROR="file:///nowhere/debian")
    return checkout


def test_a_caffe_python_that_does_not_exist_is_named(checkout):
    sentence = checkout.refusal(CAFFE_PYTHON="/nonexistent/python")
    assert "/nonexistent/python" in sentence and "no such program" in sentence


def test_a_caffe_python_without_caffe_is_refused(checkout):
    python = checkout.program("plain-python", f'exec "{sys.executable}" -S "$@"')
    assert "does not import caffe" in checkout.refusal(CAFFE_PYTHON=str(python))


def test_a_caffe_python_that_crashes_is_refused(checkout):
    python = checkout.program("crashing-python", "kill -SEGV $$")
    assert "CAFFE_PYTHON cannot be used" in checkout.refusal(CAFFE_PYTHON=str(python))


def test_packages_missing_beside_caffe_are_listed(checkout):
    python = checkout.python_with_stubs(*(name for name in EVERYTHING if name not in ("h5py", "onnx")))
    assert "imports caffe but not h5py, onnx;" in checkout.refusal(CAFFE_PYTHON=str(python))


def test_a_caffe_python_without_command_line_is_refused(checkout):
    python = checkout.python_with_stubs(*EVERYTHING)
    assert "CAFFE_COMMAND" in checkout.refusal(CAFFE_PYTHON=str(python))


@pytest.mark.parametrize("given", ["by name", "found on the PATH"])
def test_an_existing_caffe_is_used_where_it_is_and_only_once(checkout, given):
    python = checkout.python_with_stubs(*EVERYTHING)
    checkout.program("caffe", "echo solver: $1")
    variables = {}
    if given == "by name":
        variables["CAFFE_PYTHON"] = str(python)
    else:
        (checkout.bin / "python3").symlink_to(python)
    done = checkout.set_up(**variables)
    assert done.returncode == 0, done.stderr
    run = subprocess.run([str(checkout.prefix / "bin" / "python"), "-c", "import caffe, onnx, sys; print(sys.argv[1:])", "a b"],
                         capture_output=True, text=True)
    assert run.stdout == "['a b']\n", run.stderr
    assert subprocess.check_output([str(checkout.prefix / "bin" / "caffe"), "train"], text=True) == "solver: train\n"
    inode = (checkout.prefix / "bin" / "python").stat().st_ino
    again = checkout.set_up()  # without the variable: what is there stays
    assert (again.returncode, again.stderr) == (0, "")
    assert (checkout.prefix / "bin" / "python").stat().st_ino == inode


def test_conda_makes_the_environment_of_environment_yml(checkout):
    python = checkout.python_with_stubs(*EVERYTHING)
    log = checkout.root.parent / "arguments"
    checkout.program("micromamba", f"""printf '%s\\n' "$@" >> "{log}"
        mkdir -p "$3/bin" && cp "{python}" "$3/bin/python" && : > "$3/bin/caffe" """)
    done = checkout.set_up()
    assert done.returncode == 0, done.stderr
    assert log.read_text().split("\n")[:-1] == ["create", "-p", str(checkout.prefix), "-f", str(checkout.root / "environment.yml")]
    assert checkout.set_up().stderr == ""


def test_a_conda_that_fails_leaves_no_environment(checkout):
    checkout.program("conda", 'mkdir -p "$4/bin"; : > "$4/bin/python"; exit 1')
    done = checkout.set_up()
    assert done.returncode == 1 and "conda could not make the environment" in done.stderr.splitlines()[-1]
    assert not (checkout.prefix / "stamp").exists()


def test_without_apt_and_conda_the_sentence_says_what_else_would_do(checkout):
    sentence = checkout.refusal()
    assert "apt-get" in sentence and "conda" in sentence and "CAFFE_PYTHON" in sentence


def test_no_network(debian):
    sentence = debian.refusal()
    assert "network" in sentence and "DEBIAN_MIRROR" in sentence


def test_unsigned_package_list(debian):
    debian.program("apt-get", 'echo "W: GPG error: the public key is not available: NO_PUBKEY 0123"; exit 100')
    assert "debian-archive-keyring" in debian.refusal()


def test_no_keys_to_check_signatures_with(debian):
    assert "signing keys" in debian.refusal(DEBIAN_KEYRING="/nonexistent/keys.gpg")


def test_download_that_breaks_off_is_resumed_not_installed(debian):
    debian.program("apt-get", 'case "$*" in *download*) exit 100;; esac')
    done = debian.set_up()
    assert done.returncode == 1 and "run this again" in done.stderr.splitlines()[-1]
    assert not debian.prefix.exists()


def test_downloaded_file_with_another_hash_is_refused(debian):
    first = entries(DEBS)[0].split()[1]
    debian.program("apt-get", f'case "$*" in *download*) echo other > "{first}";; esac')
    done = debian.set_up()
    assert done.returncode == 1 and f"{first} is not what debian-11.lock says" in done.stderr.splitlines()[-1]
    assert not debian.prefix.exists()


def test_wrong_architecture(debian):
    debian.program("uname", 'echo "Linux aarch64"')
    assert "Linux aarch64" in debian.refusal()


@pytest.mark.parametrize("script, said", [("echo glibc 2.28", "glibc 2.28"), ("exit 1", "not glibc")])
def test_old_or_other_c_library(debian, script, said):
    debian.program("getconf", script)
    sentence = debian.refusal()
    assert said in sentence and "2.31" in sentence


def test_no_space(debian):
    debian.program("df", r"printf 'head\n/dev/disk 100 88 12 88%% /\n'")
    assert "12 MB free" in debian.refusal()


def test_cache_that_cannot_be_written(checkout):
    (checkout.root.parent / "file").touch()
    assert "XDG_CACHE_HOME" in checkout.refusal(XDG_CACHE_HOME=str(checkout.root.parent / "file"))


def test_unknown_source_is_refused(checkout):
    assert "existing, conda or debian" in checkout.refusal(CAFFE_FROM="brew")


def test_an_environment_without_its_stamp_is_not_taken_for_whole(debian):
    """What a kill -9 leaves: programs that look right, and no stamp."""
    (debian.prefix / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("true"), debian.prefix / "bin" / "python")
    assert "network" in debian.refusal()


def test_an_environment_of_other_scripts_is_built_again(checkout):
    python = checkout.python_with_stubs(*EVERYTHING)
    checkout.program("caffe", "exit 0")
    assert checkout.set_up(CAFFE_PYTHON=str(python)).returncode == 0
    (checkout.root / "environment" / LOCK.name).write_text("# changed\n")
    again = checkout.set_up()
    assert again.returncode == 0 and "ready" in again.stderr
    assert f"python: {python}" in (checkout.prefix / "stamp").read_text()
