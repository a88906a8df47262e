"""Membrane segmentation in electron microscopy with pruned Caffe networks.

A reproduction of J. Roels et al., "Convolutional neural network pruning to
accelerate membrane segmentation in electron microscopy", ISBI 2017
(arXiv:1810.09735).  Every step is a module with a command line of its own,
``python -m pycaffe_tools.NAME --help``, and a file between it and the next.
"""

__version__ = "0.1.0"
