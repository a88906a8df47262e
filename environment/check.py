"""Does this Python have Caffe and all that the toolkit needs beside it?

Prints one sentence and exits 1 where something is missing; with --summary
prints the versions in one line.  Written for any Python 3.
"""

import importlib
import os
import sys

PACKAGES = ("numpy", "google.protobuf", "h5py", "tifffile", "click", "pytest", "scipy", "matplotlib", "onnx", "onnxruntime")
DISTRIBUTION = {"google.protobuf": "protobuf"}

# Where nobody asked for Caffe's log, its start-up lines are noise here.
os.environ.setdefault("GLOG_minloglevel", "2")


def main():
    try:
        import caffe
        from caffe.proto import caffe_pb2

        caffe_pb2.NetParameter()
    except Exception as error:  # an ImportError, or protobuf's TypeError
        print("%s does not import caffe (%s); give a Python that does." % (sys.executable, " ".join(str(error).split())[:200]))
        return 1
    versions = {}
    missing = []
    for name in PACKAGES:
        try:
            versions[name] = importlib.import_module(name).__version__
        except Exception:
            missing.append(DISTRIBUTION.get(name, name))
    if missing:
        print("%s imports caffe but not %s; install what is missing into it." % (sys.executable, ", ".join(missing)))
        return 1
    if "--summary" in sys.argv:
        print("Caffe %s, Python %s, numpy %s, protobuf %s, onnxruntime %s" % (
            caffe.__version__, sys.version.split()[0], versions["numpy"], versions["google.protobuf"], versions["onnxruntime"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
