"""The parts of `caffe.model_libs`, which scripts import them from."""
