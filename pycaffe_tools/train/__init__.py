"""Training and retraining with Caffe."""
