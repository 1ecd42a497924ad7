"""Caffe's messages (`caffe.proto.caffe_pb2`), and reading and writing them as text, weights and solver states."""

from caffe.proto import caffe_pb2 as caffe_pb2
