"""Runs that give the same files again, bit for bit: seeds and deterministic algorithms for each study."""

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
# With any other value, PyTorch refuses matrix products on a GPU.
_FIXED_WORKSPACES = (":4096:8", ":16:8")


@contextmanager
def determinism(seed: int = 0) -> Iterator[None]:
    """Within the block, use MONAI's ``set_determinism`` with deterministic algorithms. Restore everything after it.

    ``set_determinism(None)`` is not enough to restore the state. It sets the flags that PyTorch had when MONAI was
    imported. And it does not restore the random generators, so the next random numbers of a notebook would change.

    Args:
        seed: seed of the random generators of Python, NumPy and PyTorch.

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
    # ``set_determinism`` seeds the global generator, so its state is saved.
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
    """Return an ``iteration_update`` that runs within :func:`determinism`.

    Each study begins with the same seed. So its files do not depend on the studies before it.

    Args:
        update: the ``iteration_update`` of an evaluator.
        active: also the strings "true" and "false". If false, ``update`` itself is returned.
        device: device of the network.

    Raises:
        ConfigurationError: see :func:`check_workspace`.

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
    """Check that cuBLAS has a fixed workspace on a GPU. Otherwise it can add numbers in another order in each run.

    Raises:
        ConfigurationError: if the workspace is not fixed. The message names the environment variable to set.
    """
    if torch.device(device).type == "cuda" and os.environ.get(_WORKSPACE) not in _FIXED_WORKSPACES:
        raise ConfigurationError(
            f"deterministic=true on a GPU needs {_WORKSPACE}={' or '.join(_FIXED_WORKSPACES)}, not "
            f"{os.environ.get(_WORKSPACE)!r}: set this environment variable before the program starts"
        )
