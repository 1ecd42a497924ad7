"""Nets for other software: ONNX."""
