"""Runs that give the same files again, to the last bit: seeds and deterministic algorithms, study by study."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.utils import get_seed, set_determinism

from monai_zsad.errors import ConfigurationError
from monai_zsad.flags import parse_flag

__all__ = ["check_workspace", "determinism", "repeatable"]

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
# PyTorch refuses matrix products on a GPU under any other.
_FIXED_WORKSPACES = (":4096:8", ":16:8")


@contextmanager
def determinism(seed: int = 0) -> Iterator[None]:
    """Within the block, MONAI's ``set_determinism`` holds, with deterministic algorithms; then all is as it was.

    ``set_determinism(None)`` was not enough for the way back: it takes up the flags that PyTorch had when MONAI was
    imported, and leaves generators where they are, which in a notebook changes what its author draws next.

    Args:
        seed: of the generators of Python, NumPy and PyTorch.

    Example:
        >>> with determinism():
        ...     one = torch.rand(1)
        >>> with determinism():
        ...     torch.equal(torch.rand(1), one), torch.are_deterministic_algorithms_enabled()
        (True, True)
        >>> torch.are_deterministic_algorithms_enabled()
        False
    """
    cudnn = torch.backends.cudnn
    before, flags = get_seed(), (cudnn.deterministic, cudnn.benchmark)
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    # The global generator is what is seeded.
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=gpus):
        try:
            set_determinism(seed, use_deterministic_algorithms=True)
            yield
        finally:
            set_determinism(before)
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
            cudnn.deterministic, cudnn.benchmark = flags
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def repeatable(
    update: Callable[[Any, Any], Any], active: bool | str, device: str | torch.device = "cpu"
) -> Callable[[Any, Any], Any]:
    """An evaluator's ``iteration_update``, if ``active`` within :func:`determinism`.

    Each study begins with the same seed, so that its files do not depend on which others the run has done before.

    Args:
        update: of the evaluator.
        active: the words "true" and "false" are understood; if false, ``update`` itself is returned.
        device: where the network is.

    Raises:
        ConfigurationError: on a GPU, if cuBLAS may choose its workspace, by which sums come in another order.

    Example:
        >>> update = repeatable(lambda engine, batch: float(torch.rand(1)), True)
        >>> update(None, None) == update(None, None)
        True
    """
    if not parse_flag("deterministic", active):
        return update
    check_workspace(device)

    def repeat(engine: Any, batch: Any) -> Any:
        with determinism():
            return update(engine, batch)

    return repeat


def check_workspace(device: str | torch.device) -> None:
    """Refuse a GPU on which cuBLAS may choose its workspace, because sums then come in another order.

    Raises:
        ConfigurationError: naming the environment variable to set.
    """
    if torch.device(device).type == "cuda" and os.environ.get(_WORKSPACE) not in _FIXED_WORKSPACES:
        raise ConfigurationError(
            f"deterministic=true needs {_WORKSPACE} of {' or '.join(_FIXED_WORKSPACES)} on a GPU, not "
            f"{os.environ.get(_WORKSPACE)!r}: set this environment variable before the program starts"
        )
