"""Slices with what lies below and above them."""

from __future__ import annotations

import torch

from monai_zsad.errors import ConfigurationError

__all__ = ["with_context"]


def with_context(
    slices: torch.Tensor, chunk: torch.Tensor, context_mm: float | None, through_spacing: float
) -> torch.Tensor:
    """Some slices of a volume, with their neighbours as channels.

    Args:
        slices: (N, C, rows, columns), all slices.
        chunk: indices of the wanted ones.
        context_mm: distance of the neighbours in mm, interpolated between slices; beyond the volume's ends, the last
            slice. None: the slices alone.
        through_spacing: mm between slices.

    Returns:
        (len(chunk), C, rows, columns) without neighbours, else (len(chunk), 3, rows, columns): below, itself, above.

    Raises:
        ConfigurationError: neighbours of slices that have several channels.

    >>> slices = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1)
    >>> with_context(slices, torch.tensor([0, 1]), 3.0, through_spacing=6.0).flatten(1).tolist()
    [[1.0, 1.0, 1.5], [1.5, 2.0, 3.0]]
    """
    if context_mm is None:
        return slices[chunk]
    if slices.shape[1] != 1:
        raise ConfigurationError(
            f"context_mm={context_mm} needs volumes of one channel, these have {slices.shape[1]}: use one "
            "window instead of three, or no context"
        )
    last = len(slices) - 1
    channels = []
    for offset in (-context_mm / through_spacing, 0.0, context_mm / through_spacing):
        place = (chunk + offset).clamp(0, last)
        low = place.floor().long()
        share = (place - low).reshape(-1, 1, 1).to(slices)  # indices may lie on the CPU beside slices on a GPU
        below, above = slices[low, 0], slices[(low + 1).clamp(max=last), 0]
        channels.append(below + share * (above - below) if share.any() else below)
    return torch.stack(channels, dim=1)
