"""What the cases do not show of the segmentation layers: other targets, bad labels, and counts over several passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe.errors import NetError
from tests.layer_harness import gradients, make_layer, run
from tests.reference import segmentation


def test_targets_other_than_0_and_1_have_a_gradient_and_no_loss() -> None:
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(3, 6)), rng.integers(0, 2, (3, 6)).astype(float)
    target[0, :2] = 0.5, 255
    target[2] = -1
    layer = make_layer("SigmoidCrossEntropyBalanceLoss", "", [x.shape, target.shape])
    (loss,) = run(layer, torch.from_numpy(x), torch.from_numpy(target))
    part = segmentation.balanced_cross_entropy(None, [x[:2], target[:2]], [], 0)[0]
    np.testing.assert_allclose(loss, part * 2 / 3)
    found = gradients(layer, [x, target])[0]
    np.testing.assert_allclose(found, segmentation.balanced_cross_entropy_gradient(x, target))


def test_half_precision_is_summed_in_float32() -> None:
    layer = make_layer("SigmoidCrossEntropyBalanceLoss", "", [(1, 4), (1, 4)])
    (loss,) = run(layer, torch.zeros(1, 4, dtype=torch.bfloat16), torch.tensor([[0.0, 1, 1, 1]]))
    assert loss.dtype == torch.float32
    np.testing.assert_allclose(loss, (0.75 + 3 * 0.25) * np.log(2), rtol=1e-6)


def test_pixels_of_all_passes_count_together_without_reset() -> None:
    rng = np.random.default_rng(0)
    layer = make_layer("SegAccuracy", "seg_accuracy_param { reset: false }", [(1, 3, 4, 5), (1, 1, 4, 5)])
    assert layer.graph_obstacle() == "adds up the pixels of all passes"
    total = np.zeros((3, 3), np.int64)
    for _ in range(3):
        scores, labels = rng.normal(size=(1, 3, 4, 5)), rng.integers(0, 3, (1, 1, 4, 5)).astype(float)
        total += segmentation.confusion(layer.param, scores, labels)
        (top,) = run(layer, torch.from_numpy(scores), torch.from_numpy(labels))
        np.testing.assert_allclose(top.reshape(3), segmentation.scores_of(total))


def test_labels_that_are_no_classes() -> None:
    layer = make_layer("SegAccuracy", "seg_accuracy_param { ignore_label: 255 }", [(1, 2, 1, 2), (1, 1, 1, 2)])
    assert layer.graph_obstacle() is None
    labels = torch.tensor([255.0, 1]).reshape(1, 1, 1, 2)
    assert run(layer, torch.zeros(1, 2, 1, 2), labels)[0].tolist() == [[[[1, 1, 1]]]]
    with pytest.raises(NetError, match="label 2 in 'b1' is not one of the 2 classes .0 to 1., nor an ignore_label"):
        run(layer, torch.zeros(1, 2, 1, 2), torch.tensor([255.0, 2]).reshape(labels.shape))
    with pytest.raises(NetError, match="was set up for 2 classes; 'b0' is 1×3×1×2"):
        layer.reshape([(1, 3, 1, 2), (1, 1, 1, 2)])
