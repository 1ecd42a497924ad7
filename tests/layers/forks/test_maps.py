"""Layers of maps where the general tests do not reach."""

from __future__ import annotations

import numpy as np
import torch

from caffe.engine.layer import TRAIN
from tests.layer_harness import make_layer, run, spread_out


def test_running_statistics_of_bn() -> None:
    layer = spread_out(make_layer("BN", "bn_param { momentum: 0.75 }", [(4, 3, 2, 2)]))
    assert [b.requires_grad for b in layer.blobs] == [True, True, False, False]
    assert [(p.lr_mult, p.decay_mult) for p in layer.param.param] == [(1, 1), (1, 1), (0, 0), (0, 0)]
    layer.blobs[2].data.fill_(2)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 2, 2)))
    run(layer, x)
    planes = x.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(layer.blobs[2].flatten(), 0.75 * 2 + 0.25 * planes.mean(1), rtol=1e-12)
    np.testing.assert_allclose(layer.blobs[3].flatten(), 0.25 * planes.var(1), rtol=1e-12)
    frozen = make_layer("BN", "bn_param { frozen: true slope_filler { value: 1 } }", [(4, 3, 2, 2)])
    assert not any(b.requires_grad for b in frozen.blobs)
    torch.testing.assert_close(run(frozen, x.float())[0], (x / np.sqrt(1 + 1e-5)).float())


def test_dropout_that_scales_in_testing_keeps_values_in_training() -> None:
    layer = make_layer("Dropout", "dropout_param { scale_train: false dropout_ratio: 0.25 }", [(4000,)], phase=TRAIN)
    torch.manual_seed(0)
    top = run(layer, torch.ones(4000))[0]
    assert set(top.tolist()) == {0.0, 1.0}
    assert 0.7 < float(top.mean()) < 0.8


def test_a_depthwise_convolution_is_one_for_the_faster_convolutions() -> None:
    text = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 %s }"
    for kind, group in (("DepthwiseConvolution", "group: 4"), ("ConvolutionDepthwise", "")):
        window = make_layer(kind, text % group, [(1, 4, 8, 8)]).as_convolution()
        assert window is not None
        assert (window.stride, window.pad, window.group) == ((2, 2), (1, 1), 4)


def test_a_mask_of_pooling_puts_values_back() -> None:
    pool = make_layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", [(1, 2, 5, 6)], 2)
    x = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    pooled, mask = run(pool, x)
    layer = make_layer("Upsample", "upsample_param { upsample_h: 5 upsample_w: 6 }", [pooled.shape, mask.shape])
    top = run(layer, pooled, mask)[0]
    assert int((top != 0).sum()) == pooled.numel()
    torch.testing.assert_close(top[top != 0], x[top != 0])


def test_selus_dropout_keeps_mean_and_variance() -> None:
    layer = make_layer("SeLuDropout", "selu_dropout_param { dropout_ratio: 0.25 }", [(200_000,)], phase=TRAIN)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, generator=generator, dtype=torch.float64).requires_grad_()
    torch.manual_seed(1)
    (top,) = run(layer, x)
    (gradient,) = torch.autograd.grad(top.sum(), x)
    kept = gradient != 0
    assert 0.74 < float(kept.double().mean()) < 0.76
    np.testing.assert_allclose(gradient[kept], layer.factor)  # type: ignore[arg-type]
    torch.testing.assert_close(top[kept], layer.factor * x[kept] + layer.shift)  # type: ignore[operator]
    assert len(top[~kept].unique()) == 1
    assert abs(float(top.detach().mean())) < 0.02
    assert abs(float(top.detach().var()) - 1) < 0.02
