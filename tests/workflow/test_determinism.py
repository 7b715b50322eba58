from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.utils import get_seed, set_determinism

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow import screen
from monai_zsad.workflow.determinism import determinism, repeatable
from tests.data.samples import write_nifti

cudnn = torch.backends.cudnn


def flags() -> tuple[Any, ...]:
    enabled = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return *enabled, cudnn.deterministic, cudnn.benchmark, get_seed()


def global_state() -> tuple[Any, ...]:
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    generators = random.getstate(), numpy["state"]["key"].tolist(), numpy["state"]["pos"]
    return *generators, torch.get_rng_state().tolist(), *flags()


@contextmanager
def users_own(seed: int | None) -> Iterator[None]:
    """Flags and seeds that are not the defaults, for what the block does."""
    before = flags()
    set_determinism(seed)
    cudnn.benchmark = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        set_determinism(before[4])
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = before[2:4]


@pytest.mark.parametrize("seed", [None, 7])
def test_all_is_as_it_was(seed: int | None) -> None:
    with users_own(seed):
        before = global_state()
        with determinism():
            assert flags() == (True, False, True, False, 0)
            random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        assert global_state() == before


def test_all_is_as_it_was_after_an_interruption() -> None:
    def update(engine: Any, batch: Any) -> None:
        raise KeyboardInterrupt

    before = global_state()
    with pytest.raises(KeyboardInterrupt):
        repeatable(update, True)(None, None)
    assert global_state() == before


def test_each_study_begins_alike() -> None:
    def update(engine: Any, batch: int) -> tuple[float, float, float]:
        drawn = [(random.random(), float(np.random.rand()), float(torch.rand(1))) for _ in range(batch)]  # noqa: NPY002
        return drawn[0]

    repeat = repeatable(update, "true")
    assert repeat(None, 3) == repeat(None, 1)


@pytest.mark.parametrize("active", [False, "false"])
def test_off_changes_nothing(active: bool | str) -> None:
    assert repeatable(str, active, "cuda") is str


def test_a_gpu_needs_a_fixed_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with pytest.raises(ConfigurationError, match=r"CUBLAS_WORKSPACE_CONFIG.*:4096:8.*:16:8.*None"):
        repeatable(str, True, "cuda:1")
    repeatable(str, True, torch.device("cpu"))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    repeatable(str, True, "cuda")


def test_a_run_with_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network works under it, its files are those of the run without, and the program goes on as before."""
    from monai_zsad.networks import ScreeningCLIP

    seen = []
    forward = ScreeningCLIP.forward

    def watched(self: ScreeningCLIP, *arguments: Any, **options: Any) -> torch.Tensor:
        seen.append(flags())
        return forward(self, *arguments, **options)

    monkeypatch.setattr(ScreeningCLIP, "forward", watched)
    scan = tmp_path / "in" / "anna.nii.gz"
    write_nifti(scan, (24, 20, 6))
    options: dict[str, Any] = {"weights": {"model": "seed:0"}, "image_size": 64, "progress": False, "report": False}
    options["device"] = "cpu"  # on a GPU the run without the option may differ
    plain = screen(scan, tmp_path / "plain", **options)
    before = global_state()
    result = screen(scan, tmp_path / "repeatable", deterministic=True, **options)
    assert global_state() == before
    assert result.complete
    assert seen[-1] == (True, False, True, False, 0)
    assert seen[0] == before[4:]
    for kind in ("anomaly_map", "candidates", "findings"):
        assert result.cases["anna"].files[kind].read_bytes() == plain.cases["anna"].files[kind].read_bytes(), kind
