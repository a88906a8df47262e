"""Models for other programs: Caffe, ONNX, bioimage.io."""
