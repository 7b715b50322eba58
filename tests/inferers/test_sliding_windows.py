from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer

from monai_zsad.errors import ConfigurationError
from monai_zsad.inferers import token_distance, window_sides
from monai_zsad.inferers.sliding_windows import SliceRunner, covers, network_device, network_sizes
from tests.inferers.toy import Brightness, Textured


class Small(Brightness):
    """Runs out of memory with more than ``limit`` slices."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.tried: list[int] = []

    def forward(self, slices):
        self.tried.append(len(slices))
        if len(slices) > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return super().forward(slices)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    window=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    overlap=st.sampled_from([0.0, 0.25, 0.6]),
    mode=st.sampled_from(["gaussian", "constant"]),
    batch=st.sampled_from([1, 3, 64]),
)
def test_windows_of_any_size_give_the_slices_back(size, window, overlap, mode, batch):
    window = tuple(max(w, s // 4) for w, s in zip(window, size, strict=True))
    slices = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1))
    kept = slices.clone()
    runner = SliceRunner(Brightness(), batch_size=batch, overlap=overlap, sw_mode=mode)
    result = runner(slices, window)
    assert result.shape == (2, 2, *size)
    assert torch.allclose(result[:, :1], slices, atol=1e-6)
    assert (result[:, 1].amax((1, 2)) <= slices.amax((1, 2, 3)) + 1e-6).all()
    assert torch.equal(slices, kept)


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize("window", [(16, 16), (7, 20), (60, 12)])
def test_blending_is_that_of_monai(mode, window):
    slices = torch.rand(3, 1, 30, 41)
    network = Textured()
    with torch.no_grad():
        expected = SlidingWindowInferer(window, sw_batch_size=4, overlap=0.5, mode=mode)(slices, network)
        result = SliceRunner(network, batch_size=5, overlap=0.5, sw_mode=mode)(slices, window)
    assert torch.allclose(result, expected, atol=1e-6)


def test_window_that_covers_the_slice_is_one_call_on_the_whole():
    network = Brightness()
    SliceRunner(network, batch_size=4)(torch.rand(3, 1, 8, 10), (8, 12))
    assert [tuple(batch.shape) for batch in network.seen] == [(3, 1, 8, 10)]
    assert covers((8, 12), (8, 10))
    assert not covers((8, 9), (8, 10))


def test_windows_keep_their_shape_on_a_narrow_slice():
    network = Brightness()
    result = SliceRunner(network)(torch.rand(1, 1, 6, 40), (16, 16))
    assert {tuple(batch.shape[2:]) for batch in network.seen} == {(16, 16)}
    assert result.shape == (1, 2, 6, 40)


def test_empty_windows_never_reach_the_network():
    slices = torch.zeros(2, 1, 32, 32)
    slices[0, 0, :8, :8] = torch.rand(8, 8) + 0.1
    network = Brightness()
    result = SliceRunner(network, overlap=0.0)(slices, (8, 8))
    assert network.count == 1
    assert torch.allclose(result[:, :1], slices, atol=1e-6)
    every = Brightness()
    SliceRunner(every, overlap=0.0, empty_below=None)(slices, (8, 8))
    assert every.count == 32


def test_network_that_returns_its_input_or_a_view_is_not_written_to():
    slices = torch.rand(1, 2, 20, 20)
    kept = slices.clone()
    result = SliceRunner(lambda x: x, batch_size=1)(slices, (8, 8))
    assert torch.equal(slices, kept)
    assert torch.allclose(result, slices, atol=1e-6)
    flat = torch.full((1, 1, 1, 1), 0.5)
    result = SliceRunner(lambda x: flat.expand(len(x), 2, *x.shape[2:]))(slices, (8, 8))
    assert torch.allclose(result, torch.tensor(0.5))
    assert flat.item() == 0.5


OUT_OF_MEMORY = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "python": MemoryError(),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
}


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
@pytest.mark.parametrize("window", [None, (8, 8)])
def test_maps_are_the_same_after_running_out_of_memory(kind, window):
    network, tried = Textured(), []

    def troubled(slices):
        tried.append(len(slices))
        if len(slices) > 2:
            raise OUT_OF_MEMORY[kind]
        return network(slices)

    slices = torch.rand(7, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = SliceRunner(network, batch_size=8)(slices, window)
        result = SliceRunner(troubled, batch_size=8)(slices, window)
    assert max(tried) > 2
    assert (result - expected).abs().max() < 1e-5


def test_memory_of_the_cpu_runs_out_in_earnest():
    def greedy(slices):
        if len(slices) > 1:
            torch.empty(1 << 60, dtype=torch.uint8)
        return slices.repeat(1, 2, 1, 1)

    slices = torch.rand(3, 1, 4, 4)
    assert torch.equal(SliceRunner(greedy)(slices)[:, :1], slices)


def test_other_errors_of_the_network_pass():
    def broken(slices):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        SliceRunner(broken)(torch.rand(3, 1, 4, 4))


def test_batch_is_halved_when_memory_runs_out(caplog):
    network = Small(limit=3)
    runner = SliceRunner(network, batch_size=16)
    slices = torch.rand(10, 1, 4, 4)
    with caplog.at_level(logging.WARNING):
        result = runner(slices)
    assert network.tried == [10, 5, 2, 2, 2, 2, 2]
    assert torch.equal(result[:, :1], slices)
    assert "out of memory with 10 slices" in caplog.text
    runner(slices[:4])
    assert network.tried[-2:] == [2, 2], "the smaller batch is kept"


def test_one_slice_too_many_names_the_remedy():
    with pytest.raises(ConfigurationError, match=r"single slice of \(1, 4, 4\).*amp=True"):
        SliceRunner(Small(limit=0))(torch.rand(4, 1, 4, 4))


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (lambda x: x, r"\(2, 1, 4, 4\)"),
        (lambda x: x.new_zeros(2, 2, 1, 1), r"\(2, 2, 1, 1\)"),
        (lambda x: (x, x), "tuple"),
    ],
)
def test_other_results_than_the_contract_are_refused(network, found):
    with pytest.raises(ConfigurationError, match=rf"returned {found}.*\(2, 2, 4, 4\)"):
        SliceRunner(network)(torch.rand(2, 1, 4, 4))


def test_autocast_and_arguments_reach_the_network():
    types = []

    def network(slices, gain, offset=0.0):
        types.append((slices @ slices.mT).dtype)
        return (gain * slices + offset).to(types[-1]).repeat(1, 2, 1, 1)

    result = SliceRunner(network, (0.5,), {"offset": 0.25}, amp_dtype=torch.bfloat16)(torch.ones(1, 1, 4, 4))
    assert types == [torch.bfloat16]
    assert result.dtype == torch.float32
    assert (result == 0.75).all()


def test_window_sides_and_token_distance_undo_each_other():
    sides = window_sides(1.5, (0.5, 0.75), image_size=518, patch_size=14)
    assert sides == (111, 74)
    assert token_distance(sides, (0.5, 0.75), 518, 14) == pytest.approx((1.5, 1.5))
    assert window_sides(1e-3, (1, 1), 32, 16) == (1, 1)


def test_network_attributes():
    assert network_device(Textured()) == torch.device("cpu")
    assert network_device(Brightness()) is None
    assert network_device(lambda x: x) is None
    assert network_sizes(Brightness(48, 16)) == (48, 16)
    with pytest.raises(ConfigurationError, match=r"Textured.image_size is None.*roi_size"):
        network_sizes(Textured())
