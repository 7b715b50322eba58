"""Random transforms and order that depend on seed, epoch and index alone, so that a training can go on anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from monai.data import CacheDataset, DistributedSampler
from monai.transforms import Randomizable

__all__ = ["ResumableSampler", "SeededDataset"]


class SeededDataset(CacheDataset):
    """MONAI's ``CacheDataset``, in which the random transforms of an item start from a seed of its own.

    There, an item's random numbers follow from all that were drawn before in the same worker, so a training that goes
    on after an interruption, or runs with other workers or processes, sees other data. Here they depend on ``seed``,
    the epoch and the item alone. Indices are those of :class:`ResumableSampler`, or plain numbers, which count as
    epoch 0: the same every time, as validation wants it.

    Args:
        data: items, see :class:`monai.data.Dataset`.
        transform: a ``Compose`` that returns an item or a list of items.
        seed: of all epochs.
        cache_rate: share of the items of which the deterministic transforms' result is kept in memory, in [0, 1].
        progress: show a progress bar while they are made.

    Example:
        >>> from monai.transforms import Compose, RandScaleIntensityd
        >>> noise = Compose([RandScaleIntensityd("x", factors=0.5, prob=1.0)])
        >>> data = SeededDataset([{"x": np.ones(1)}], noise, seed=3)
        >>> first, other = data[1, 0]["x"], data[2, 0]["x"]
        >>> bool(first == data[1, 0]["x"]), bool(first == other)
        (True, False)
    """

    def __init__(
        self, data: Any, transform: Any = None, seed: int = 0, cache_rate: float = 0.0, progress: bool = False
    ) -> None:
        self.seed = seed
        super().__init__(data, transform, cache_rate=cache_rate, num_workers=None, progress=progress)

    def __getitem__(self, index: Any) -> Any:
        """The item of ``index``, or of ``(epoch, index)``."""
        epoch, number = index if isinstance(index, tuple) else (0, index)
        if isinstance(self.transform, Randomizable):
            drawn = np.random.SeedSequence([self.seed, int(epoch), int(number)]).generate_state(1)
            self.transform.set_random_state(seed=int(drawn[0]))
        return super().__getitem__(number)


class ResumableSampler(DistributedSampler):
    """MONAI's ``DistributedSampler`` over ``(epoch, index)``, which can leave out what an interrupted epoch had done.

    MONAI's engines tell it the epoch. Of two processes with batches of n each, both together see the batch of 2 n
    that one process would see.

    Args:
        dataset: a :class:`SeededDataset`.
        shuffle: draw a new order for each epoch.
        seed: of the order.
        num_replicas: number of processes.
        rank: of this process.

    Example:
        >>> sampler = ResumableSampler(range(4), shuffle=False)
        >>> sampler.set_epoch(2)
        >>> sampler.skip = 3
        >>> list(sampler), len(list(sampler))
        ([(2, 3)], 4)
    """

    def __init__(self, dataset: Any, shuffle: bool = True, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=shuffle, seed=seed)
        self.skip = 0
        """Items that the next pass leaves out; 0 after it."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """``(epoch, index)`` of this process' items."""
        skip, self.skip = self.skip, 0
        return iter([(self.epoch, index) for index in islice(super().__iter__(), skip, None)])
