"""Numbers of fillers between or around which nothing can be drawn."""

from __future__ import annotations

import pytest
import torch
from google.protobuf import text_format

from caffe.engine.fillers import fill
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from tests.layer_harness import make_layer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type: "gaussian" std: -1', "a std of at least 0; found mean 0, std -1"),
        ('type: "gaussian" std: nan', "std nan"),
        ('type: "gaussian" std: inf', "std inf"),
        ('type: "gaussian" std: -inf', "std -inf"),
        ('type: "gaussian" mean: nan', "a finite mean"),
        ('type: "uniform" min: 1 max: 0', "needs min <= max"),
        ('type: "uniform" min: -inf max: inf', "both finite"),
        ('type: "uniform" min: inf max: inf', "both finite"),
        ('type: "uniform" min: -3e38 max: 3e38', "less than 3.4e38 apart"),
        ('type: "uniform" min: nan', "found min nan, max 1"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(NetError, match=f"layer 'l' .InnerProduct.: filler .*{message}"):
        make_layer("InnerProduct", f"inner_product_param {{ num_output: 2 weight_filler {{ {text} }} }}", [(1, 3)])


@pytest.mark.parametrize(
    ("text", "value"),
    [('type: "gaussian" mean: 2 std: 0', 2), ('type: "uniform" min: 3 max: 3', 3), ('type: "constant" value: 4', 4)],
)
def test_one_value(text: str, value: float) -> None:
    blob = torch.zeros(2, 3)
    fill(blob, text_format.Parse(text, caffe_pb2.FillerParameter()))
    assert blob.tolist() == [[value] * 3] * 2
