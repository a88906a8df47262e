"""Real Caffe: its Python, its command line, in this process or in a child."""
