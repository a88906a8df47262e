"""Does this Python have Caffe and all that the toolkit needs beside it?

Prints one sentence and exits 1 without Caffe, 2 where Caffe is there and
something else is missing; with --summary prints the versions in one line.
Written for any Python 3.
"""

import importlib
import os
import sys
import tempfile

PACKAGES = ("numpy", "google.protobuf", "h5py", "tifffile", "click", "pytest", "scipy", "matplotlib", "onnx", "onnxruntime",
            "threadpoolctl")
DISTRIBUTION = {"google.protobuf": "protobuf"}

# Where nobody asked for Caffe's log, its start-up lines are noise here.
os.environ.setdefault("GLOG_minloglevel", "2")


def main():
    try:
        import caffe
        from caffe.proto import caffe_pb2

        caffe.Net, caffe_pb2.NetParameter()
    except Exception as error:  # an ImportError, or protobuf's TypeError
        print("%s does not import caffe (%s); give a Python that does." % (sys.executable, " ".join(str(error).split())[:200]))
        return 1
    versions = {}
    missing = []
    for name in PACKAGES:
        try:
            versions[name] = getattr(importlib.import_module(name), "__version__", "?")
        except Exception:
            missing.append(DISTRIBUTION.get(name, name))
    if missing:
        print("%s imports caffe but not %s; install what is missing into it." % (sys.executable, ", ".join(missing)))
        return 2
    if "--summary" in sys.argv:
        print("Caffe %s, Python %s, numpy %s, protobuf %s, onnxruntime %s" % (
            getattr(caffe, "__version__", "?"), sys.version.split()[0], versions["numpy"], versions["google.protobuf"],
            versions["onnxruntime"]))
    return 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("MPLCONFIGDIR", scratch)  # or matplotlib makes itself a folder in the home directory
        status = main()
    sys.exit(status)
