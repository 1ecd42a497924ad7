"""Weights of other frameworks, in and out. Nothing here runs code from a file: tensors are all that is read."""
