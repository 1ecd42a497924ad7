"""The order in which ranks read the records."""

from __future__ import annotations

from collections import Counter

import pytest

from caffe.data.feed.stream import Order


@pytest.mark.parametrize("count", [8, 24, 10, 31])
def test_a_run_on_one_then_two_then_one_rank_reads_each_record_once_an_epoch(count: int) -> None:
    """Updates of 8 records: batches of 4, with iter_size 2 on one rank. Epochs end within and between updates."""
    updates, seen = 20, Counter[tuple[int, int]]()
    for update in range(updates):
        ranks = 2 if 5 <= update < 13 else 1
        iter_size = 2 // ranks
        for rank in range(ranks):
            order = Order(count, rank, ranks)
            first = update * iter_size * 4
            seen.update(order.at(place) for place in range(first, first + iter_size * 4))
    assert seen == Counter(divmod(number, count) for number in range(8 * updates))
