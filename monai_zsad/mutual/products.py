"""Similarity of each token to the most similar token of other images: matrix products in tiles of bounded size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

__all__ = ["Prepared", "average_grid", "grid_tokens", "largest_cosines", "normalize_image", "prepare"]

# Matrix products are up to 1.4 times as fast if the number of rows is a multiple of this.
_ALIGNED = 16
_SMALLEST_LENGTH = 1e-12


class Prepared(NamedTuple):
    """Tokens of n images, ready for products.

    Attributes:
        tokens: (n, T', C) float32. T' is T, rounded up; the additional tokens are 0.
        inverse: (D, n, T), 1 / length of each token after averaging with each of D degrees.
    """

    tokens: torch.Tensor
    inverse: torch.Tensor


def grid_tokens(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens (N, g g, C) in float32, without the class token if there is one.

    >>> grid_tokens(torch.zeros(2, 10, 4)).shape
    torch.Size([2, 9, 4])
    """
    count = tokens.shape[-2]
    return tokens[..., count - math.isqrt(count) ** 2 :, :].float()


def normalize_image(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens (N, g g, C) minus their mean, over their spread. Both are of the whole image, all channels together."""
    return F.layer_norm(tokens.flatten(1), (tokens[0].numel(),)).view_as(tokens)


def average_grid(values: torch.Tensor, height: int, degree: int) -> torch.Tensor:
    """Mean of each ``degree`` x ``degree`` neighbourhood of a grid with ``height`` rows, zeros outside.

    Args:
        values: (n, height x width, C).
        height: rows of the grid.
        degree: side of the neighbourhood, an odd number.

    Returns:
        (n, height x width, C).
    """
    if degree == 1:
        return values
    # Channels come last in memory, which is the fast form of this pooling.
    x = values.unflatten(1, (height, -1)).permute(0, 3, 1, 2)
    half = degree // 2
    x = F.avg_pool2d(F.avg_pool2d(x, (degree, 1), 1, (half, 0)), (1, degree), 1, (0, half))
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def prepare(tokens: torch.Tensor, degrees: Sequence[int]) -> Prepared:
    """Prepare tokens (n, T, C) of images for :func:`largest_cosines`."""
    side = math.isqrt(tokens.shape[1])
    lengths = [average_grid(tokens, side, degree).norm(dim=-1) for degree in degrees]
    inverse = torch.stack(lengths).clamp_min(_SMALLEST_LENGTH).reciprocal()
    return Prepared(F.pad(tokens, (0, 0, 0, -tokens.shape[1] % _ALIGNED)), inverse)


def largest_cosines(
    query: Prepared, references: Prepared, degrees: Sequence[int], tile: int, *, both: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Cosine of each token of one image and the most similar token of each reference, for every degree.

    Averaging is linear. So the product of averaged tokens is the average, over both grids, of the product of tokens:
    one matrix product is enough for all degrees.

    Args:
        query: one image.
        references: n images.
        degrees: sides of the neighbourhoods, odd numbers.
        tile: numbers in a product. If the whole product is larger, it is computed in bands of rows of the query's grid.
        both: whether to return the other direction too.

    Returns:
        (D, n, T): for each token of the query, the largest cosine in each reference; and (D, n, T): for each token of
        the references, the largest cosine in the query, or None.
    """
    count, padded, width = references.tokens.shape
    size = query.inverse.shape[-1]
    side, halo = math.isqrt(size), max(degrees) // 2
    columns = references.tokens.view(count * padded, width).T
    rows_at_once = tile // (side * count * padded)
    # Neighbouring bands both compute the rows that averaging needs; wide bands keep this to half of the time.
    band = side if rows_at_once >= side else max(1, rows_at_once - 2 * halo, 4 * halo)
    found: list[list[torch.Tensor]] = [[] for _ in degrees]
    back: list[torch.Tensor | None] = [None] * len(degrees)
    for top in range(0, side, band):
        bottom = min(top + band, side)
        first, last = max(0, top - halo), min(bottom + halo, side)
        # All rows at once: with the rows that align the product.
        rows = slice(first * side, last * side if last - first < side else None)
        product = (query.tokens[0, rows] @ columns)[: (last - first) * side]
        inner = slice((top - first) * side, (bottom - first) * side)
        for index, degree in enumerate(degrees):
            averaged = average_grid(product.unsqueeze(0), last - first, degree)[0, inner]
            # (n, tokens of the references, tokens of the query)
            cosines = averaged.unflatten(1, (count, padded))[..., :size].permute(1, 2, 0)
            cosines = average_grid(cosines.contiguous(), side, degree) if degree > 1 else cosines
            cosines = cosines * references.inverse[index].unsqueeze(-1)
            cosines *= query.inverse[index, 0, top * side : bottom * side]
            found[index].append(cosines.amax(1))
            if both:
                nearest, before = cosines.amax(2), back[index]
                back[index] = nearest if before is None else torch.maximum(before, nearest)
    forward = torch.stack([torch.cat(parts, dim=-1) for parts in found])
    return forward, torch.stack([one for one in back if one is not None]) if both else None
