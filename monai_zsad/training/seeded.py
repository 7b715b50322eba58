"""Random transforms and sampling that depend only on seed, epoch and index, so that a training can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from monai.data import CacheDataset, DistributedSampler
from monai.transforms import Randomizable

__all__ = ["ResumableSampler", "SeededDataset"]


class SeededDataset(CacheDataset):
    """MONAI's ``CacheDataset``, in which each item has its own random seed.

    In ``CacheDataset``, the random numbers of an item depend on all numbers drawn before in the same worker. A resumed
    training, or one with another number of workers or processes, then gets other data. Here the random numbers depend
    only on ``seed``, the epoch and the item. An index comes from :class:`ResumableSampler`, or is a plain number. A
    plain number counts as epoch 0, so validation data are the same every time.

    Args:
        data: items, see :class:`monai.data.Dataset`.
        transform: a ``Compose`` that returns an item or a list of items.
        seed: random seed of all epochs.
        cache_rate: fraction of the items, in [0, 1], for which the output of the deterministic transforms is kept in
            memory.
        progress: show a progress bar while the cache is filled.

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
        """The item at ``index``, or at ``(epoch, index)``."""
        epoch, number = index if isinstance(index, tuple) else (0, index)
        if isinstance(self.transform, Randomizable):
            drawn = np.random.SeedSequence([self.seed, int(epoch), int(number)]).generate_state(1)
            self.transform.set_random_state(seed=int(drawn[0]))
        return super().__getitem__(number)


class ResumableSampler(DistributedSampler):
    """MONAI's ``DistributedSampler`` that gives ``(epoch, index)`` and can skip the finished items of an epoch.

    MONAI's engines set the epoch. Two processes with batches of n items together get the same items as one process with
    batches of 2 n items.

    Args:
        dataset: a :class:`SeededDataset`.
        shuffle: draw a new order for each epoch.
        seed: random seed of the order.
        num_replicas: number of processes.
        rank: rank of this process.

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
        """Number of items that the next pass skips. It is 0 again after that pass."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """``(epoch, index)`` of the items of this process."""
        skip, self.skip = self.skip, 0
        return iter([(self.epoch, index) for index in islice(super().__iter__(), skip, None)])
