"""3 × 3 convolution with stride 1, slowly: one filter tap after another, in double precision."""

from __future__ import annotations

import numpy as np


def convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, pad: int, dilation: int) -> np.ndarray:
    """x: N × C × H × W; weight: outputs × C × 3 × 3; bias: outputs. Returns N × outputs × rows × columns."""
    padded = np.pad(x.astype("f8"), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows, columns = (size - 2 * dilation for size in padded.shape[2:])
    y = np.zeros((len(x), len(weight), rows, columns))
    for i, j in np.ndindex(3, 3):
        tap = padded[:, :, i * dilation : i * dilation + rows, j * dilation : j * dilation + columns]
        y += np.einsum("ncyx,oc->noyx", tap, weight[:, :, i, j].astype("f8"))
    return y if bias is None else y + bias.astype("f8")[:, None, None]
