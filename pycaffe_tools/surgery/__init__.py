"""Features removed from any Caffe net, and the proof that nothing else changed."""
