"""Several sizes in one data layer: a prototxt that gives resize_param more than once, as MobileNet-YOLO's do."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.data.augment.resize import check_resize
from caffe.errors import NetError

#: for so many batches a size stays
_BATCHES = 10
#: how far the probabilities' sum may be from 1, as in the fork
_TOLERANCE = 0.01


class ResizeChoice:
    """The ResizeParameters of a TransformationParameter: one is drawn for every ten batches, by their `prob`.

    A single one holds for all batches, whatever its `prob` is, as in the SSD branch.
    """

    def __init__(self, param: Any, where: str) -> None:
        """Raises NetError, beginning with `where`, for sizes or probabilities that cannot be."""
        self._params = [param.resize_param, *param.more_resizes]
        for each in self._params:
            check_resize(each, where)
        prob = np.array([each.prob for each in self._params], np.float64)
        if len(prob) > 1 and not (prob.min() >= 0 and abs(prob.sum() - 1) <= _TOLERANCE):
            listed = ", ".join(f"{value:g}" for value in prob)
            raise NetError(
                f"{where}: the prob of its {len(prob)} resize_param must be at least 0 and add up to 1; found {listed}"
            )
        self._steps = np.cumsum(prob)

    def of_batch(self, batch: int, seed: int) -> Any:
        """The ResizeParameter of batch number `batch`: a function of the seed and the number alone."""
        if len(self._params) == 1:
            return self._params[0]
        drawn = np.random.default_rng([seed & (1 << 64) - 1, batch // _BATCHES]).random() * self._steps[-1]
        return self._params[min(int(np.searchsorted(self._steps, drawn, side="right")), len(self._params) - 1)]

    @property
    def fits_small(self) -> bool:
        """Whether an image's own size can decide the result's."""
        return any(each.resize_mode == each.FIT_SMALL_SIZE for each in self._params)
