"""Every k-th slice through the network, and what lies between from its neighbours."""

from __future__ import annotations

import torch

__all__ = ["fill_between", "thinned"]


def thinned(seen: torch.Tensor, step: int) -> torch.Tensor:
    """Of each run of neighbouring seen slices the first, every ``step``-th from there, and the last.

    Args:
        seen: (N,), bool: which slices are to have a result.
        step: of the slices that are run, at least 1.

    Returns:
        Indices of the slices to run, int64, ascending: each seen slice is one of them or lies between two of its run.

    >>> thinned(torch.tensor([False, True, True, True, True, False, True]), step=2).tolist()
    [1, 3, 4, 6]
    """
    place = torch.arange(len(seen), device=seen.device)
    edge = torch.ones_like(seen[:1])
    starts = seen & torch.cat([edge, ~seen[:-1]])
    ends = seen & torch.cat([~seen[1:], edge])
    first = torch.where(starts, place, 0).cummax(0).values
    return (seen & (((place - first) % step == 0) | ends)).nonzero().flatten()


def fill_between(slices: torch.Tensor, seen: torch.Tensor, run: torch.Tensor) -> None:
    """Give the seen slices that were not run a linear interpolation of the nearest that were; writes into ``slices``.

    Args:
        slices: (N, ...), float32: a map, possibly a view into a volume, or scores. Changed in place.
        seen: (N,), bool.
        run: indices, of :func:`thinned`.

    >>> scores = torch.tensor([0.0, 1.0, 0.0, 2.0, 9.0])
    >>> fill_between(scores, torch.tensor([True, True, True, True, False]), torch.tensor([0, 1, 3]))
    >>> scores.tolist()
    [0.0, 1.0, 1.5, 2.0, 9.0]
    """
    for low, high in zip(run.tolist(), run.tolist()[1:], strict=False):
        if high - low < 2 or not bool(seen[low + 1]):
            continue  # neighbours, or the end of one run of slices and the start of the next
        for index in range(low + 1, high):
            slices[index] = torch.lerp(slices[low], slices[high], (index - low) / (high - low))
