"""caffe-windows' layers: gradients that are no derivatives, weights kept in bounds, counts, and what tells forms apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caffe.engine.fillers import fill
from caffe.engine.layer import TEST, TRAIN
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from tests.layer_harness import gradients, make_layer, run, spread_out
from tests.layers.forks.cases_faces import CLASSES, CONTRASTIVE, DISTANCES, OTHERS, TRIPLET
from tests.reference import faces


@pytest.mark.parametrize("options", CONTRASTIVE)
@pytest.mark.parametrize("seed", range(3))
def test_the_contrastive_gradient_is_the_forks(options: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bottoms = [bottom.values(rng) for bottom in (DISTANCES, CLASSES)]
    layer = make_layer("GeneralContrastiveLoss", f"general_contrastive_loss_param {{ {options} }}", [(7, 4), (7,)])
    _, expected, *_ = faces.contrastive(layer.param, bottoms)
    np.testing.assert_allclose(gradients(layer, bottoms, 0.5)[0], expected * 0.5)


def test_a_third_bottom_stands_in_for_the_distances() -> None:
    rng = np.random.default_rng(0)
    bottoms = [bottom.values(rng) for bottom in (DISTANCES, CLASSES, OTHERS)]
    layer = make_layer("GeneralContrastiveLoss", "", [b.shape for b in bottoms])
    found = gradients(layer, bottoms)
    np.testing.assert_allclose(found[0], faces.contrastive(layer.param, bottoms)[1])
    assert not found[2].any()


def test_the_running_mean_moves_the_margin() -> None:
    rng = np.random.default_rng(0)
    text = "general_contrastive_loss_param { add_intra_mae: true positive_weight: 3 max_negative_margin: 0.02 }"
    layer = make_layer("GeneralContrastiveLoss", text, [(7, 4), (7,)], 2)
    intra = 0.0
    for _ in range(5):
        bottoms = [bottom.values(rng) for bottom in (OTHERS, CLASSES)]
        loss, _, means, intra = faces.contrastive(layer.param, bottoms, intra)
        found = run(layer.double(), *(torch.from_numpy(b) for b in bottoms))
        np.testing.assert_allclose(found[0], loss)
        np.testing.assert_allclose(found[1], means)
    assert intra == pytest.approx(0.02)


@pytest.mark.parametrize("options", TRIPLET)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_triplet_gradient_is_the_forks(options: str, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    bottoms = [bottom.values(rng) for bottom in (DISTANCES, CLASSES)] + [rng.uniform(size=7)] * weighted
    layer = make_layer("GeneralTripletLoss", f"general_triplet_loss_param {{ {options} }}", [b.shape for b in bottoms])
    np.testing.assert_allclose(gradients(layer, bottoms, 2.0)[0], 2 * faces.triplet(layer.param, bottoms)[1])


@pytest.mark.parametrize("kind", ["GeneralContrastiveLoss", "GeneralTripletLoss", "LabelSpecificAdd"])
def test_labels_that_are_no_classes(kind: str) -> None:
    layer = make_layer(kind, "", [(1, 4), (1,)])
    with pytest.raises(NetError, match="label 4 in 'b1' is not one of the 4 classes .0 to 3."):
        run(layer, torch.zeros(1, 4), torch.tensor([4.0]))


def test_norms_pass_no_gradient_on_unless_bp_norm_is_set() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 2))
    for text, passes in (("", False), ("normalize_param { bp_norm: true }", True)):
        layer = make_layer("Normalize", text, [x.shape], 2)
        norms = run(layer, torch.from_numpy(x).requires_grad_())[1]
        assert norms.requires_grad == passes


def test_fix_gradient_is_not_divided_by_the_norm() -> None:
    rng = np.random.default_rng(0)
    x, diff = rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    layer = make_layer("Normalize", "normalize_param { fix_gradient: true }", [x.shape])
    (found,) = gradients(layer, [x], diff.reshape(4, 5, 1, 1))
    unit = x / np.sqrt((x**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, diff - unit * (unit * diff).sum(axis=1, keepdims=True), rtol=1e-6)


def test_zeros_stay_zeros() -> None:
    for kind in ("L1", "L2"):
        layer = make_layer("Normalize", f"normalize_param {{ normalize_type: '{kind}' }}", [(2, 3)])
        assert not run(layer, torch.zeros(2, 3))[0].any()


def test_normalize_is_the_ssd_branchs_without_a_sign_of_the_other() -> None:
    assert len(make_layer("Normalize", "", [(2, 3, 4, 4)]).blobs) == 1
    assert not make_layer("Normalize", "", [(2, 3, 4, 4)], 2).blobs


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("InnerProduct", "inner_product_param { num_output: 3 normalize: true }"),
        ("InnerDistance", "inner_distance_param { num_output: 3 normalize: true }"),
    ],
)
def test_weights_are_kept_at_length_1(kind: str, text: str) -> None:
    """The gradient is that for the weights as they are then; a later pass does not spoil an earlier one's."""
    layer = spread_out(make_layer(kind, text, [(4, 5)]))
    x = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first = run(layer, x)[0]
    weights = layer.blobs[0].detach().clone()
    np.testing.assert_allclose(weights.norm(dim=1), 1)
    second = run(layer, x)[0]
    (found,) = torch.autograd.grad((first + second).sum(), layer.blobs[0])
    expected = x.sum(dim=0).expand(3, 5) if kind == "InnerProduct" else 2 * (4 * weights - x.sum(dim=0))
    np.testing.assert_allclose(found, 2 * expected)
    assert layer.compile_obstacle() == "normalizes its weights in place"


def test_a_class_learns_from_its_own_items_alone() -> None:
    rng = np.random.default_rng(0)
    x, vectors, labels = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), np.array([1.0, 4, 1, 0])
    diff = rng.normal(size=(4, 5))
    layer = make_layer("InnerDistance", "inner_distance_param { update_center_only: true }", [(4, 3), (5, 3), (4,)])
    found = gradients(layer, [x, vectors, labels], diff)
    expected = np.zeros_like(vectors)
    for m, label in enumerate(labels.astype(int)):
        expected[label] += 2 * diff[m, label] * (vectors[label] - x[m])
    np.testing.assert_allclose(found[1], expected)
    np.testing.assert_allclose(found[0], 2 * (diff[:, :, None] * (x[:, None] - vectors)).sum(axis=1))


def test_short_distances_keep_their_digits() -> None:
    layer = make_layer("InnerDistance", "", [(1, 512), (1, 512)])
    x = torch.full((1, 512), 100.0)
    (found,) = run(layer, x, x + 2**-10)
    np.testing.assert_allclose(found, 512 * 2.0**-20)


def test_learned_scales_are_kept_within_bounds() -> None:
    layer = make_layer("Scale", "scale_param { filler { value: 7 } min_value: 0.5 max_value: 2 }", [(2, 3)])
    assert run(layer, torch.ones(2, 3))[0].unique().tolist() == [2]
    layer.blobs[0].data.fill_(-3)
    assert run(layer, torch.ones(2, 3))[0].unique().tolist() == [0.5]
    assert layer.blobs[0].unique().tolist() == [0.5]


@pytest.mark.parametrize("text", ["", "do_backward_feature: false", "do_backward_scale: false", "do_forward: false"])
@pytest.mark.parametrize("whole", ["", "global_scale: true"])
def test_channel_scales_gradients(text: str, whole: str) -> None:
    """Those of the product with the factors, whatever the top is."""
    rng = np.random.default_rng(0)
    x, scale, diff = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 1, 4, 5)), rng.normal(size=(2, 3, 4, 5))
    layer = make_layer("ChannelScale", f"channel_scale_param {{ {text} {whole} }}", [x.shape, scale.shape])
    found = gradients(layer, [x, scale], diff)
    np.testing.assert_allclose(found[0], diff if "feature" in text else diff * scale)
    own = np.zeros_like(scale) if "backward_scale" in text else (diff * x).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[1], own)


def test_the_global_scale_follows_the_factors_in_training() -> None:
    def scale_of(phase: int) -> Any:
        return make_layer("ChannelScale", "channel_scale_param { global_scale: true }", [(1, 2), (1,)], 2, phase)

    layer = scale_of(TRAIN)
    factors = [torch.tensor([4.0]), torch.tensor([-8.0])]
    assert run(layer, torch.ones(1, 2), factors[0])[1].tolist() == [4]
    kept = run(layer, torch.ones(1, 2), factors[1])
    np.testing.assert_allclose(kept[1].numpy(), [4.04], rtol=1e-6)
    np.testing.assert_allclose(kept[0].numpy(), [[4.04, 4.04]], rtol=1e-6)
    untrained = scale_of(TEST)
    assert run(untrained, torch.ones(1, 2), factors[0])[1].tolist() == [-1]


def test_the_margin_changes_with_each_pass() -> None:
    text = "label_specific_add_param { bias_base: 0.5 bias_gamma: -0.25 bias_min: -0.5 bias_max: 0.3 iteration: 1 }"
    layer = make_layer("LabelSpecificAdd", text, [(1, 2), (1,)], 2)
    assert layer.graph_obstacle() == "counts its passes"
    found = [float(run(layer, torch.ones(1, 2), torch.zeros(1))[1]) for _ in range(5)]
    np.testing.assert_allclose(found, [0.25, 0, -0.25, -0.5, -0.5], atol=1e-7)
    fixed = make_layer("LabelSpecificAdd", text, [(1, 2), (1,)], 2, TEST)
    assert fixed.graph_obstacle() is None
    assert [float(run(fixed, torch.ones(1, 2), torch.zeros(1))[1]) for _ in range(2)] == [0.25, 0.25]


def test_a_power_of_a_negative_number_changes_no_score() -> None:
    text = "label_specific_add_param { bias_base: 0.5 bias_gamma: -2 bias_power: 0.5 bias_max: 9 iteration: 3 }"
    layer = make_layer("LabelSpecificAdd", text, [(1, 2), (1,)], 2)
    top, bias = run(layer, torch.ones(1, 2), torch.zeros(1))
    assert top.tolist() == [[1, 1]]
    assert bias.isnan().all()


def test_the_smallest_distance_is_the_best() -> None:
    distances = torch.tensor([[3.0, 1, 2], [1, 1, 2], [1, 1, 2]])
    for k, expected in ((1, 2 / 3), (2, 1)):
        layer = make_layer("Accuracy", f"accuracy_param {{ min_is_better: true top_k: {k} }}", [(3, 3), (3,)])
        np.testing.assert_allclose(run(layer, distances, torch.tensor([1.0, 0, 1]))[0], expected, rtol=1e-6)


def test_parameters_and_their_filler() -> None:
    text = "parameter_param { shape { dim: 4 dim: 9 } blob_filler { type: 'gaussian_unitball' } }"
    (top,) = run(make_layer("Parameter", text, []))
    np.testing.assert_allclose(top.detach().norm(dim=1), 1, rtol=1e-5)
    assert len(top.unique()) == 36
    filler = caffe_pb2.FillerParameter(type="gaussian_unitball", sparse=2)
    with pytest.raises(NetError, match="filler 'gaussian_unitball' has no sparse form"):
        fill(torch.zeros(2, 2), filler)
