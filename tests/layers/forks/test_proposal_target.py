"""ProposalTarget where it draws at random, what it refuses, and its agreement with BboxAccuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caffe.errors import NetError
from tests.layer_harness import Array, make_layer, run
from tests.layers.comparison import drawn
from tests.layers.forks.cases_proposal_target import CASES, TARGET, draw_objects, draw_regions

#: fifty regions and five objects of two images
REGIONS = torch.as_tensor(draw_regions(np.random.default_rng(3), (50, 5)))
OBJECTS = torch.as_tensor(draw_objects(np.random.default_rng(4), (5, 7)))
CASCADE = torch.cat([OBJECTS, torch.zeros(5, 1, dtype=torch.float64)], dim=1)


def found(options: str, objects: torch.Tensor = OBJECTS, seed: int = 0, regions: torch.Tensor = REGIONS) -> list[Any]:
    layer = make_layer("ProposalTarget", TARGET % options, [tuple(regions.shape), tuple(objects.shape)], 7).double()
    torch.manual_seed(seed)
    return [top.numpy().reshape(len(top), -1) for top in run(layer, regions, objects)]


def rows(tops: list[Array]) -> list[tuple[float, ...]]:
    """The regions as values that can be compared."""
    return [tuple(row.round(6)) for row in tops[0]]


def test_cases_have_foreground_and_background() -> None:
    for case in CASES:
        if case.type == "ProposalTarget":
            labels = run(case.layer().double(), *map(torch.as_tensor, drawn(case)))[1].ravel().tolist()
            assert len(labels) - labels.count(0) > 2
            assert labels.count(0) > 2
            assert {1.0, 2.0} <= set(labels)


@pytest.mark.parametrize("objects", [OBJECTS, CASCADE], ids=["MS-CNN", "Cascade R-CNN"])
def test_a_share_of_each_kind_is_drawn(objects: torch.Tensor) -> None:
    everything = found("batch_size: -1", objects)
    fore = {row for row, label in zip(rows(everything), everything[1].ravel(), strict=True) if label}
    drawn_rows = []
    for seed in range(4):
        tops = found("batch_size: 12 fg_fraction: 0.25", objects, seed)
        labels = tops[1].ravel()
        assert len(labels) == 12
        assert (labels > 0).tolist() == [True] * 3 + [False] * 9
        assert set(rows(tops)) <= set(rows(everything))
        assert set(rows(tops)[:3]) <= fore
        drawn_rows.append(tuple(rows(tops)))
    assert len(set(drawn_rows)) == 4
    assert rows(found("batch_size: 12 fg_fraction: 0.25", objects, 0)) == list(drawn_rows[0])


def test_ms_cnn_fills_the_batch_with_random_boxes_and_cascade_r_cnn_does_not() -> None:
    options = "batch_size: 200 fg_fraction: 0.5 img_width: 300 img_height: 200"
    cascade, tops = found(options, CASCADE), found(options)
    assert len(cascade[0]) < 60
    assert len(tops[0]) == 200
    assert rows(tops)[: len(cascade[0])] == rows(cascade)
    random = tops[0][len(cascade[0]) :]
    assert not tops[1][len(cascade[0]) :].any()
    assert not tops[3][len(cascade[0]) :].any()
    assert set(random[:, 0].tolist()) == {0, 1}
    sides = random[:, 3:] - random[:, 1:3] + 1
    assert sides.min() >= 32
    assert (random[:, 1:] >= 0).all()
    assert (random[:, 1] < 268).all()
    assert (random[:, 2] < 168).all()
    assert len({tuple(row) for row in random.tolist()}) == len(random)
    inside = random[(random[:, 1] < 40) & (random[:, 2] < 40)]
    assert len(inside) > 0  # near the objects, and yet background


def test_an_object_as_large_as_the_image_does_not_keep_it_looking() -> None:
    objects = torch.tensor([[i, 0.0, 0, 32, 32, 1, 0] for i in (0, 1)])
    tops = found("batch_size: 3 fg_fraction: 0", objects, regions=torch.zeros(0, 5))
    assert len(tops[0]) == 3
    assert tops[1].ravel().tolist() == [0, 0, 0]


@pytest.mark.parametrize("objects", [OBJECTS, CASCADE], ids=["MS-CNN", "Cascade R-CNN"])
def test_without_any_region_there_is_a_random_one(objects: torch.Tensor) -> None:
    tops = found("batch_size: -1", objects[:0], regions=torch.zeros(0, 5))
    assert [len(top) for top in tops] == [1] * 7
    assert tops[0][0, 3:].tolist() == [31, 31]  # without img_width and img_height
    assert tops[6].ravel().tolist() == [1]


def test_regions_of_ignored_objects_are_left_out() -> None:
    only = torch.cat([OBJECTS[:1], OBJECTS[:1]])
    only[1, 1:5], only[1, 6] = only[1, 1:5] + 100, 1
    tops = found("batch_size: -1 bg_thr_lw: 0", only, regions=only[:, :5])
    assert tops[1].ravel().tolist() == [1, 1]  # the first object as a region, and as itself


def test_its_targets_move_regions_onto_their_objects() -> None:
    tops = found("batch_size: -1 append_gtbox: false", CASCADE)
    shapes = [top.shape for top in (tops[2], tops[0], tops[5])]
    after, before = run(
        make_layer("BboxAccuracy", "", shapes, 2).double(), *(torch.as_tensor(tops[i]) for i in (2, 0, 5))
    )
    assert float(after) == pytest.approx(1)
    assert float(before) == pytest.approx(tops[5][tops[1].ravel() > 0, 5].mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((0, 0, 2.0), "a row of 'b1' is of image 2; with num_img_per_batch: 2 there are images 0 to 1"),
        ((0, 0, -2.0), "a row of 'b1' is of image -2"),
        ((1, 5, 3.0), "label 3 in 'b1' is not one of the classes 1 to 2"),
        ((1, 5, 0.0), "label 0 in 'b1' is not one of the classes"),
    ],
)
def test_bad_objects_are_named(change: tuple[int, int, float], message: str) -> None:
    objects = OBJECTS.clone()
    objects[change[:2]] = change[2]
    with pytest.raises(NetError, match=message):
        found("", objects)
    regions = REGIONS.clone()
    regions[4, 0] = 5
    with pytest.raises(NetError, match="a row of 'b0' is of image 5"):
        found("", regions=regions)


def test_hard_mining_names_an_image_that_is_not_in_the_batch() -> None:
    layer = make_layer("HardMining", "hard_mining_param { num_image: 2 }", [(2,), (2, 5)])
    with pytest.raises(NetError, match="a region of 'b1' is of image 2; with num_image: 2 there are images 0 to 1"):
        run(layer, torch.zeros(2), torch.tensor([[1.0, 0, 0, 9, 9], [2, 0, 0, 9, 9]]))
