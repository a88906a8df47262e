"""Caffe nets: the paper's tables, prototxts as graphs, weights, model folders, and Caffe itself."""
