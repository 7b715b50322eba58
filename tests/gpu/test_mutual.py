"""Mutual scores on the GPU are those of the CPU. These tests are skipped without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_zsad.mutual import mutual_scores
from tests.mutual.test_scoring import FILES, random_tokens
from tests.parity import bound_of, compare

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("name", FILES or ["none"])
def test_golden(shared: Path, name: str) -> None:
    errors = compare(shared / "golden" / "mutual" / name, device="cuda")
    assert errors
    assert {array: error for array, error in errors.items() if error > bound_of(array)} == {}


@pytest.mark.parametrize("width", [16, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_as_on_the_cpu(width: int, dtype: torch.dtype) -> None:
    tokens = random_tokens(images=7, side=12, width=width).to(dtype)
    here = mutual_scores(tokens)
    for there in (mutual_scores(tokens.cuda()), mutual_scores(tokens, device="cuda", memory_mib=1)):
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), here, atol=1e-5, rtol=0)
