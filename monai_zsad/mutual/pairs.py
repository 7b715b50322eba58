"""All pairs of images of a layer, in tiles: reading of tokens, and the smallest distances of each token."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from monai_zsad.mutual.products import Prepared, average_grid, grid_tokens, largest_cosines, normalize_image, prepare

__all__ = ["Pairs", "Tokens", "distance", "positions", "product_size"]

# Parts of the memory. About six arrays of a product's size exist at once, and four copies of a reference's tokens.
_PRODUCT, _QUERIES, _REFERENCES, _BUFFERS = 1 / 16, 1 / 4, 1 / 32, 1 / 8


class Tokens(Protocol):
    """Tokens of a set of images, in memory or on disk: a tensor, an array, a memory map, or a reader of several files.

    ``tokens.shape`` is (layers, images, tokens, C). ``tokens[layer, [0, 3]]`` are the tokens (2, tokens, C) of images 0
    and 3 as a tensor or an array of any floating type.
    """

    @property
    def shape(self) -> Sequence[int]:
        """(layers, images, tokens, C)."""

    def __getitem__(self, place: Any, /) -> Any:
        """Tokens of one layer of several images."""


def distance(cosines: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of two vectors of length 1, from their cosine."""
    return (2 - 2 * cosines).clamp_min(0).sqrt()


def positions(count: int, interval: tuple[float, float]) -> tuple[int, int]:
    """First and last position of an interval in ``count`` sorted distances; at least one distance lies between them.

    >>> positions(49, (0.0, 0.3)), positions(2, (0.0, 0.3))
    ((0, 14), (0, 1))
    """
    first = min(int(count * interval[0]), count - 1)
    return first, max(int(count * interval[1]), first + 1)


def product_size(device: torch.device) -> int:
    """Numbers in a product that suit the device: a larger one leaves the cache of a CPU."""
    return 2**21 if device.type == "cpu" else 2**28


class _Nearest:
    """The largest cosines (D, keep, T) of the tokens of one image, of those that were added.

    New ones wait until there are as many as are kept, since selecting takes longer than adding. The memory is allocated
    at once: small tensors that stay between large ones that go would keep the memory of a process from shrinking.
    """

    def __init__(self, keep: int, degrees: int, tokens: int, device: torch.device) -> None:
        self.keep = keep
        self.values = torch.empty(degrees, 2 * keep, tokens, device=device)
        self.filled = 0

    def add(self, cosines: torch.Tensor) -> None:
        for part in cosines.split(self.keep, dim=1):
            if self.filled + part.shape[1] > 2 * self.keep:
                self.values[:, : self.keep] = self.largest()
                self.filled = self.keep
            self.values[:, self.filled : self.filled + part.shape[1]] = part
            self.filled += part.shape[1]

    def largest(self) -> torch.Tensor:
        return torch.topk(self.values[:, : self.filled], min(self.keep, self.filled), dim=1).values


@dataclass(frozen=True)
class Pairs:
    """Which images are compared, how, and in how much memory.

    Attributes:
        queries: tokens of the images that get scores.
        references: tokens of the images that they are compared with.
        choice: references of each query; None for all. An image of the same set is not compared with itself.
        own: whether queries and references are the same set.
        interval: see :func:`~monai_zsad.mutual.scoring.interval_mean`.
        memory_mib: memory for everything but tokens and results.
        device: device of the computation.
    """

    queries: Tokens
    references: Tokens
    choice: Sequence[Collection[int]] | None
    own: bool
    interval: tuple[float, float]
    memory_mib: int
    device: torch.device

    def scores(self, layer: int, degrees: Sequence[int], averaged: int = 1) -> torch.Tensor:
        """Scores (D, N, T) of the tokens of a layer, for D degrees.

        Args:
            layer: number of the layer.
            degrees: degrees that come from one product of tokens.
            averaged: degree to which the tokens are averaged before.

        Returns:
            (D, N, T), float64, on the device of the computation.
        """
        everyone = range(self.queries.shape[1])
        tokens = math.isqrt(self.queries.shape[2]) ** 2
        sizes = self._sizes(len(degrees))
        found: dict[int, torch.Tensor] = {}
        nearest: dict[int, _Nearest] = {}
        for block in _split(everyone, sizes.queries):
            for query in everyone if sizes.both else block:
                if query not in nearest:
                    nearest[query] = _Nearest(self._places(query)[1], len(degrees), tokens, self.device)
            queries = {query: self._read(self.queries, layer, [query], degrees, averaged) for query in block}
            for tile in _split(self._needed(block, sizes.both), sizes.references):
                references = self._read(self.references, layer, tile, degrees, averaged)
                for query in block:
                    places = [place for place, other in enumerate(tile) if self._wanted(query, other, sizes.both)]
                    if not places:
                        continue
                    some = references if len(places) == len(tile) else _some(references, places)
                    there, back = largest_cosines(queries[query], some, degrees, sizes.product, both=sizes.both)
                    nearest[query].add(there)
                    if back is not None:
                        for place, cosines in zip(places, back.unbind(1), strict=True):
                            nearest[tile[place]].add(cosines.unsqueeze(1))
            if not sizes.both:
                found |= {query: self._mean(query, nearest.pop(query)) for query in block}
        found |= {query: self._mean(query, kept) for query, kept in nearest.items()}
        return torch.stack([found[query] for query in everyone], dim=1)

    def _sizes(self, degrees: int) -> _Sizes:
        """Sizes of tiles and blocks for the memory."""
        numbers = self.memory_mib * 2**18
        images = self.queries.shape[1]
        tokens = math.isqrt(self.queries.shape[2]) ** 2
        product = min(int(numbers * _PRODUCT), product_size(self.device))
        buffer = degrees * tokens * 2 * max(self._places(query)[1] for query in range(images))
        both = self.own and self.choice is None and images * buffer <= numbers * _BUFFERS
        image = tokens * self.queries.shape[3]
        queries = numbers * _QUERIES // image if both else numbers * min(_QUERIES / image, _BUFFERS / buffer)
        # Several small products together take less time if they leave room in the cache.
        references = min(product // 4 // tokens**2, int(numbers * _REFERENCES) // image)
        return _Sizes(product, max(1, int(queries)), max(1, references), both)

    def _places(self, query: int) -> tuple[int, int]:
        count = self.references.shape[1] - self.own if self.choice is None else len(self.choice[query])
        return positions(count, self.interval)

    def _needed(self, block: Sequence[int], both: bool) -> Sequence[int]:
        """References of a block of images. In pairs that count for both, they are the later images."""
        if both:
            return range(block[0] + 1, self.references.shape[1])
        if self.choice is None:
            return range(self.references.shape[1])
        return sorted(set().union(*(self.choice[query] for query in block)))

    def _wanted(self, query: int, reference: int, both: bool) -> bool:
        if both:
            return reference > query
        if self.choice is None:
            return not self.own or reference != query
        return reference in self.choice[query]

    def _read(
        self, source: Tokens, layer: int, images: Sequence[int], degrees: Sequence[int], averaged: int
    ) -> Prepared:
        tokens = torch.as_tensor(source[layer, list(images)]).to(self.device)
        grid = normalize_image(grid_tokens(tokens))
        return prepare(average_grid(grid, math.isqrt(grid.shape[1]), averaged), degrees)

    def _mean(self, query: int, nearest: _Nearest) -> torch.Tensor:
        """Scores (D, T) of an image. RsCIN enlarges small differences of scores, so that means are in float64."""
        first, _ = self._places(query)
        return distance(nearest.largest().double())[:, first:].mean(1)


class _Sizes(NamedTuple):
    """Numbers in a product; images that wait for their references; references of a tile; pairs count for both."""

    product: int
    queries: int
    references: int
    both: bool


def _some(references: Prepared, places: list[int]) -> Prepared:
    return Prepared(references.tokens[places], references.inverse[:, places])


def _split(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
