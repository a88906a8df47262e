"""Caffe's files: the schema of its messages, prototxts, caffemodels, old forms."""
