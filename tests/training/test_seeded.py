"""Order and randomness that follow from seed, epoch and index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad, RandScaleIntensityd

from monai_zsad.training.seeded import ResumableSampler, SeededDataset


def _dataset(cache_rate: float = 0.0, seed: int = 1, count: int = 6) -> SeededDataset:
    steps = [Lambdad("x", lambda x: x + 1), RandScaleIntensityd("x", factors=0.5, prob=1.0)]
    items = [{"x": np.full((1, 2), float(i))} for i in range(count)]
    return SeededDataset(items, Compose(steps), seed=seed, cache_rate=cache_rate)


def _values(dataset: SeededDataset, workers: int = 0, skip: int = 0, epoch: int = 1) -> list[float]:
    sampler = ResumableSampler(dataset, seed=5)
    sampler.set_epoch(epoch)
    sampler.skip = skip
    loader = DataLoader(dataset, sampler=sampler, batch_size=2, num_workers=workers)
    return [float(value) for batch in loader for value in batch["x"][:, 0, 0]]


def test_randomness_is_the_items_own() -> None:
    dataset = _dataset()
    late = [float(dataset[3, index]["x"][0, 0]) for index in (4, 2, 0)]
    again = [float(_dataset()[3, index]["x"][0, 0]) for index in (4, 2, 0)]
    assert late == again
    assert late != [float(dataset[4, index]["x"][0, 0]) for index in (4, 2, 0)]
    assert late != [float(_dataset(seed=2)[3, index]["x"][0, 0]) for index in (4, 2, 0)]


def test_plain_indices_are_the_same_every_time() -> None:
    dataset = _dataset()
    assert float(dataset[2]["x"][0, 0]) == float(dataset[2]["x"][0, 0]) == float(dataset[0, 2]["x"][0, 0])


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_cache_change_nothing(workers: int) -> None:
    assert _values(_dataset(cache_rate=1.0), workers) == _values(_dataset())


def test_skipping_leaves_out_what_was_done() -> None:
    whole = _values(_dataset())
    assert _values(_dataset(), skip=4) == whole[4:]
    assert _values(_dataset(), epoch=2) != whole


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 50))
def test_ranks_together_see_the_batches_of_one_process(ranks: int, batch: int, seed: int) -> None:
    count = ranks * batch * 3
    orders = []
    for rank in range(ranks):
        sampler = ResumableSampler(range(count), seed=seed, num_replicas=ranks, rank=rank)
        sampler.set_epoch(2)
        orders.append(list(sampler))
    alone = ResumableSampler(range(count), seed=seed)
    alone.set_epoch(2)
    whole = list(alone)
    for step in range(3):
        together = {item for order in orders for item in order[step * batch : (step + 1) * batch]}
        assert together == set(whole[step * batch * ranks : (step + 1) * batch * ranks])
