"""Operations along the stack of slices: foreground, thinning, neighbours, smoothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers import GaussianFilter

from monai_zsad.errors import ConfigurationError

__all__ = [
    "fill_between",
    "foreground_fractions",
    "slice_step",
    "smooth_through_slices",
    "thinned",
    "values_of_others",
    "with_context",
]


def foreground_fractions(volume: torch.Tensor, threshold: float) -> list[torch.Tensor]:
    """Fraction of foreground in the slices along each axis of a volume (C, X, Y, Z): float64, on the CPU.

    It is computed row by row, since a mask of the volume would need as much memory as the volume.
    """
    shape = volume.shape[1:]
    counts = [torch.zeros(n, dtype=torch.int64, device=volume.device) for n in shape]
    for row in range(shape[0]):
        mask = (volume[:, row] > threshold).any(0)
        counts[0][row] = mask.sum()
        counts[1] += mask.sum(1)
        counts[2] += mask.sum(0)
    return [c.double().cpu() / max(1, shape.numel() // n if n else 1) for c, n in zip(counts, shape, strict=True)]


def slice_step(slice_spacing_mm: float | None, through_spacing: float) -> int:
    """Distance between the slices that are run, counted in slices.

    Args:
        slice_spacing_mm: requested distance in mm; None for every slice.
        through_spacing: mm between slices. 0.999 mm counts as 1 mm.

    >>> slice_step(2.0, 0.999), slice_step(None, 0.999)
    (2, 1)
    """
    return 1 if slice_spacing_mm is None else max(1, int(slice_spacing_mm / through_spacing + 0.01))


def thinned(seen: torch.Tensor, step: int) -> torch.Tensor:
    """Choose every ``step``-th slice of each series of neighbouring slices, and its first and last slice.

    Args:
        seen: (N,), bool: slices that need a result.
        step: distance between the chosen slices, at least 1.

    Returns:
        Indices of the slices to run, int64, ascending. Every other seen slice lies between two of them in its series.

    >>> thinned(torch.tensor([False, True, True, True, True, False, True]), step=2).tolist()
    [1, 3, 4, 6]
    """
    position = torch.arange(len(seen), device=seen.device)
    edge = torch.ones_like(seen[:1])
    starts = seen & torch.cat([edge, ~seen[:-1]])
    ends = seen & torch.cat([~seen[1:], edge])
    first = torch.where(starts, position, 0).cummax(0).values
    return (seen & (((position - first) % step == 0) | ends)).nonzero().flatten()


def fill_between(slices: torch.Tensor, seen: torch.Tensor, run: torch.Tensor) -> None:
    """Interpolate linearly the slices that were not run, in place.

    Args:
        slices: (N, ...), float32: a map, possibly a view into a volume, or scores. It is changed in place.
        seen: (N,), bool: slices that need a result.
        run: indices of the slices that were run, from :func:`thinned`.

    >>> scores = torch.tensor([0.0, 1.0, 0.0, 2.0, 9.0])
    >>> fill_between(scores, torch.tensor([True, True, True, True, False]), torch.tensor([0, 1, 3]))
    >>> scores.tolist()
    [0.0, 1.0, 1.5, 2.0, 9.0]
    """
    for low, high in zip(run.tolist(), run.tolist()[1:], strict=False):
        if high - low < 2 or not bool(seen[low + 1]):
            continue  # neighbours, or the end of one series and the start of the next
        for index in range(low + 1, high):
            slices[index] = torch.lerp(slices[low], slices[high], (index - low) / (high - low))


def values_of_others(
    anomaly: torch.Tensor, values: Sequence[torch.Tensor], seen: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Score and unfamiliarity of the slices along the last axis, if only planes along other axes were run.

    Args:
        anomaly: (X, Y, Z), the fused map.
        values: of each plane (N, 2): score and unfamiliarity of its slices.
        seen: of each plane (N,), bool: slices that have a result.

    Returns:
        (2, Z): scores, the maximum of the map; and unfamiliarities, the median of all slices that have a result.

    >>> values = [torch.tensor([[0.0, 0.0], [0.3, 2.0]])]
    >>> values_of_others(torch.tensor([0.0, 0.3]).view(1, 1, 2), values, [torch.tensor([False, True])])
    tensor([[0.0000, 0.3000],
            [0.0000, 2.0000]])
    """
    scores = anomaly.amax((0, 1))
    ran = torch.cat([found[one, 1] for one, found in zip(seen, values, strict=True)])
    return torch.stack([scores, (scores > 0) * (ran.median() if len(ran) else 0.0)])


def with_context(
    slices: torch.Tensor, chunk: torch.Tensor, context_mm: float | None, through_spacing: float
) -> torch.Tensor:
    """Slices of a volume with their neighbours as channels.

    Args:
        slices: (N, C, rows, columns), all slices.
        chunk: indices of the requested slices.
        context_mm: distance of the neighbours in mm. They are interpolated between slices; beyond the ends of the
            volume, the last slice is used. None: no neighbours.
        through_spacing: mm between slices.

    Returns:
        (len(chunk), C, rows, columns) without neighbours, else (len(chunk), 3, rows, columns): slice
        below, slice itself, slice above.

    Raises:
        ConfigurationError: if neighbours are requested for slices with several channels.

    >>> slices = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1)
    >>> with_context(slices, torch.tensor([0, 1]), 3.0, through_spacing=6.0).flatten(1).tolist()
    [[1.0, 1.0, 1.5], [1.5, 2.0, 3.0]]
    """
    if context_mm is None:
        return slices[chunk]
    if slices.shape[1] != 1:
        raise ConfigurationError(
            f"context_mm={context_mm} needs volumes of one channel, but these have {slices.shape[1]}: use one "
            "intensity window instead of three, or leave out context_mm"
        )
    last = len(slices) - 1
    channels = []
    for offset in (-context_mm / through_spacing, 0.0, context_mm / through_spacing):
        position = (chunk + offset).clamp(0, last)
        low = position.floor().long()
        share = (position - low).reshape(-1, 1, 1).to(slices)  # indices may lie on the CPU beside slices on a GPU
        below, above = slices[low, 0], slices[(low + 1).clamp(max=last), 0]
        channels.append(below + share * (above - below) if share.any() else below)
    return torch.stack(channels, dim=1)


def smooth_through_slices(slices: torch.Tensor, seen: torch.Tensor, sigma: float) -> None:
    """Smooth the seen slices with a Gaussian along the first axis, in place.

    MONAI's :class:`~monai.networks.layers.GaussianFilter` was not enough: it includes the zeros beyond the volume and
    in slices that were never run, which darkens the map beside them. Here only seen slices count, and their weights
    are scaled to a sum of 1. Slices that are not seen keep their values. A constant map stays constant. It works row
    by row, so that no second volume is needed.

    Args:
        slices: (N, rows, columns), float32: a map, possibly a view into a volume. It is changed in place.
        seen: (N,), bool: slices that the network has seen.
        sigma: standard deviation in slices, > 0.

    Example:
        >>> maps = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(4, 1, 1)
        >>> smooth_through_slices(maps, torch.tensor([True, True, True, False]), sigma=1.0)
        >>> [round(v, 2) for v in maps.flatten().tolist()]
        [0.35, 0.44, 0.35, 0.0]
    """
    smooth = GaussianFilter(1, sigma).to(slices.device)
    seen = seen.to(slices.device)
    # Under the autocast of an evaluator, this convolution would run in half precision.
    with torch.autocast(slices.device.type, enabled=False):
        weight = seen.to(slices.dtype)
        total = smooth(weight[None, None])[..., seen]
        for row in range(slices.shape[1]):
            values = (slices[:, row] * weight[:, None]).T[:, None]
            slices[seen, row] = (smooth(values)[..., seen] / total)[:, 0].T
