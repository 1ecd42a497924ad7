"""The order of records and their random numbers: functions of seed, epoch and index alone.

Neither the number of worker processes nor a pause in between changes what a run sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe.runtime import runtime


@dataclass(frozen=True)
class Order:
    """The stream of records that one rank reads: every `world_size`-th of the database, again and again.

    As in Caffe, ranks take turns record by record: place p of rank r is record (p · world_size + r) modulo `count`.
    """

    count: int
    rank: int = 0
    world_size: int = 1
    #: records skipped at the very start (rand_skip)
    skip: int = 0

    @classmethod
    def of_phase(cls, count: int, train: bool, skip: int = 0) -> Order:
        """This process's order. Ranks share the records in training; a test uses one rank."""
        if train:
            return cls(count, runtime.rank, runtime.world_size, skip)
        return cls(count, skip=skip)

    def at(self, place: int) -> tuple[int, int]:
        """(epoch, index of the record) at `place` of the stream, from 0."""
        return divmod(self.skip + place * self.world_size + self.rank, self.count)


def record_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of record `index` in `epoch`, from their own Philox stream."""
    return np.random.Generator(np.random.Philox(key=[seed & (1 << 64) - 1, epoch], counter=[0, 0, 0, index]))


def layer_seed() -> int:
    """The seed of data order and augmentation in this process; ranks share it, as they share the stream."""
    return runtime.data_seed()


def random_skip(most: int, seed: int) -> int:
    """rand_skip: a random number of records below `most` to skip at the start; 0 if `most` is 0."""
    return int(np.random.default_rng([seed, most]).integers(most)) if most else 0
