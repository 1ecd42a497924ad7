"""Weights stored as float16: half the file, computed with in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

#: smaller constants (shapes, thresholds, scales) stay as they are
_LEAST = 256


def store_half(model: Any) -> int:
    """Stores the model's large float32 constants as float16, each followed by a Cast. Returns how many.

    Values beyond float16's range would become infinite, so such constants stay float32.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    largest = float(np.finfo(np.float16).max)
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        array = numpy_helper.to_array(tensor)
        if array.size < _LEAST or not np.abs(array).max() <= largest:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}/half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}/cast", to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    return len(casts)
