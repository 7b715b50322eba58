"""MuSc: the images of a set are scored by one another. No prompts, no labels, no training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.mutual.images import rscin
from monai_zsad.mutual.pairs import Pairs, Tokens, distance, positions, product_size
from monai_zsad.mutual.products import average_grid, grid_tokens, normalize_image
from monai_zsad.networks.maps import grid_to_map, l2_normalize

__all__ = [
    "MuSc",
    "MutualScores",
    "aggregate",
    "interval_mean",
    "mutual_scores",
    "nearest_distances",
]

# From this number of channels on, averaging a product takes less time than a further product.
_SHARED_PRODUCT = 256


class MutualScores(NamedTuple):
    """Result for N images.

    Attributes:
        grid: (N, g g), the score of each token: a mean of distances, from 0 to 2.
        anomaly_map: (N, S, S), the grid resized to the image.
        score: (N,), the largest value of each map.
        set_score: (N,) in [0, 1], the scores after :func:`rscin`; ``score`` if there are no image embeddings.
    """

    grid: torch.Tensor
    anomaly_map: torch.Tensor
    score: torch.Tensor
    set_score: torch.Tensor


@dataclass(frozen=True)
class MuSc:
    """Settings of MuSc; the defaults are those of the release. Call it with tokens.

    MONAI has nothing similar: its networks score one image at a time.

    Attributes:
        degrees: sides of the neighbourhoods over which tokens are averaged, odd numbers.
        interval: part of the references, in ascending order of distance, over which a token's distances are averaged.
        k_list: numbers of most similar images in :func:`rscin`, the image itself included.
        memory_mib: memory for tiles and buffers, whatever the number of images. Tokens and results are not included.

    Raises:
        ConfigurationError: if a setting cannot be used.

    References:
        Li et al., "MuSc: Zero-Shot Industrial Anomaly Classification and Segmentation with Mutual Scoring of the
        Unlabeled Images", ICLR 2024, arXiv 2401.16753.

    Example:
        >>> tokens, embeddings = torch.randn(2, 5, 17, 8), torch.randn(5, 8)  # 2 layers, 5 images, 4 x 4 tokens
        >>> found = MuSc(degrees=(1, 3))(tokens, embeddings, size=32)
        >>> found.anomaly_map.shape, found.set_score.shape
        (torch.Size([5, 32, 32]), torch.Size([5]))
    """

    degrees: tuple[int, ...] = (1, 3, 5)
    interval: tuple[float, float] = (0.0, 0.3)
    k_list: tuple[int, ...] = (1, 2, 3)
    memory_mib: int = 1024

    def __post_init__(self) -> None:
        _check_degrees(self.degrees)
        _check_interval(self.interval)
        if not self.k_list or min(self.k_list) < 1:
            raise ConfigurationError(f"k_list={self.k_list}: give numbers of images, at least 1")
        if self.memory_mib < 1:
            raise ConfigurationError(f"memory_mib={self.memory_mib}: give at least 1")

    def __call__(
        self,
        tokens: Tokens,
        embeddings: torch.Tensor | None = None,
        *,
        size: int | None = None,
        references: Tokens | None = None,
        choice: Sequence[Sequence[int]] | torch.Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> MutualScores:
        """Maps and scores of N images.

        Args:
            tokens: (layers, N, 1 + g g or g g, C), see :class:`~monai_zsad.mutual.pairs.Tokens`.
            embeddings: (N, D) for :func:`rscin`; None to leave it out.
            size: side of the maps; None for that of the grid.
            references: see :func:`mutual_scores`, also for the next two arguments.
            choice: references of each image.
            device: device of the computation.

        Returns:
            Maps and scores, float32.

        Raises:
            InputError: if there are too few images or references, or the tokens cannot be used.
            ConfigurationError: if ``choice`` names an image that does not exist, or the image itself.
        """
        values = _scores(tokens, references, choice, self.degrees, self.interval, self.memory_mib, device)
        grid = values.mean((0, 1))
        side = size or math.isqrt(grid.shape[1])
        maps = grid_to_map(grid.float(), side, align_corners=True)
        score = torch.stack([grid_to_map(one, side, align_corners=True).amax() for one in grid.split(1)])
        set_score = score if embeddings is None else rscin(score, embeddings.to(score.device), self.k_list)
        return MutualScores(grid.float(), maps, score.float(), set_score.float())


def aggregate(tokens: torch.Tensor, degree: int = 1) -> torch.Tensor:
    """Tokens of one layer, averaged over neighbourhoods, of length 1.

    The release flattens each neighbourhood to C x degree^2 values, channels slowest, and pools them to C values. Each
    of the C bins is then one channel of the neighbourhood. So this is an average over the neighbourhood, with zeros
    around the grid.

    Args:
        tokens: (N, 1 + g g or g g, C). A class token is left out.
        degree: side of the neighbourhood, an odd number.

    Returns:
        (N, g g, C), float32.

    Raises:
        ConfigurationError: if the degree is not odd.

    Example:
        >>> aggregate(torch.randn(2, 17, 8), 3).shape
        torch.Size([2, 16, 8])
    """
    _check_degrees([degree])
    normal = normalize_image(grid_tokens(tokens))
    return l2_normalize(average_grid(normal, math.isqrt(normal.shape[1]), degree))


def nearest_distances(queries: torch.Tensor, references: torch.Tensor, *, tile: int | None = None) -> torch.Tensor:
    """Distance of each token to the nearest token of each reference, with any number of tokens in a reference.

    Args:
        queries: (Q, T, C), tokens as of :func:`aggregate`, of any floating type; they are brought to length 1 again.
        references: (R, M, C), as the queries.
        tile: numbers in a matrix product at most; None for what suits the device.

    Returns:
        (R, Q, T), Euclidean distances, float32. Distances below 0.001 are rounding errors.

    Example:
        >>> nearest_distances(torch.eye(2).unsqueeze(0), torch.tensor([[[1.0, 0.0]]]))
        tensor([[[0.0000, 1.4142]]])
    """
    flat = l2_normalize(queries.flatten(0, 1))
    tile = tile or product_size(flat.device)
    width = max(1, min(references.shape[1], tile // min(len(flat), 2048)))
    found = []
    for reference in references:
        nearest = torch.full_like(flat[:, 0], -1)
        for columns in reference.split(width):
            right = l2_normalize(columns.to(flat.device)).T
            rows = flat.split(max(1, tile // width))
            torch.maximum(nearest, torch.cat([(part @ right).amax(1) for part in rows]), out=nearest)
        found.append(distance(nearest).view(queries.shape[:2]))
    return torch.stack(found)


def interval_mean(distances: torch.Tensor, interval: tuple[float, float] = (0.0, 0.3)) -> torch.Tensor:
    """Mean of the distances between two positions of their ascending order.

    Args:
        distances: (n, ...), to n references.
        interval: first and last position as parts of n. At least one distance counts; the release divides by 0 if
            there are fewer than 4 references.

    Returns:
        (...).

    Raises:
        ConfigurationError: if the interval does not lie in [0, 1].

    Example:
        >>> interval_mean(torch.tensor([4.0, 1.0, 3.0, 2.0]), (0.0, 0.5))
        tensor(1.5000)
    """
    first, last = positions(distances.shape[0], interval)
    return torch.topk(distances, last, dim=0, largest=False).values[first:].mean(0)


def mutual_scores(
    tokens: Tokens,
    *,
    references: Tokens | None = None,
    choice: Sequence[Sequence[int]] | torch.Tensor | None = None,
    degrees: Sequence[int] = (1, 3, 5),
    interval: tuple[float, float] = (0.0, 0.3),
    memory_mib: int = 1024,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Scores of the tokens of N images, for every degree and layer.

    Only the smallest distances that the interval needs are kept. Their buffer grows with the number of references of an
    image; the number of images whose buffers are held at once falls accordingly. If the buffers of all images fit, each
    pair of images is computed once for both.

    Args:
        tokens: (layers, N, 1 + g g or g g, C), float32, float16 or bfloat16. All computation is in float32.
        references: tokens of other images, of the same form; None if the images are compared with one another.
        choice: for each image, the numbers of its references, such as of :func:`choose_references`; None for all of
            them. Without ``references``, all others.
        degrees: sides of the neighbourhoods, odd numbers.
        interval: see :func:`interval_mean`.
        memory_mib: memory for tiles and buffers.
        device: device of the computation; None for that of the tokens.

    Returns:
        (degrees, layers, N, g g), float32.

    Raises:
        InputError: if there are too few images or references, or the tokens cannot be used.
        ConfigurationError: if a setting cannot be used.
    """
    return _scores(tokens, references, choice, degrees, interval, memory_mib, device).float()


def _scores(
    tokens: Tokens,
    references: Tokens | None,
    choice: Sequence[Sequence[int]] | torch.Tensor | None,
    degrees: Sequence[int],
    interval: tuple[float, float],
    memory_mib: int,
    device: torch.device | str | None,
) -> torch.Tensor:
    """:func:`mutual_scores` in float64."""
    _check_degrees(degrees)
    _check_interval(interval)
    others = tokens if references is None else references
    _check_tokens(tokens, others)
    chosen = None if choice is None else _chosen(choice, tokens.shape[1], others.shape[1], own=references is None)
    place = device if device is not None else getattr(tokens, "device", "cpu")
    pairs = Pairs(tokens, others, chosen, references is None, interval, memory_mib, torch.device(place))
    passes = [(tuple(degrees), 1)] if tokens.shape[3] >= _SHARED_PRODUCT else [((1,), degree) for degree in degrees]
    found = torch.stack(
        [torch.cat([pairs.scores(layer, *one) for one in passes]) for layer in range(tokens.shape[0])], dim=1
    )
    if not found.isfinite().all():
        raise InputError("MuSc: some tokens are not finite numbers; check the weights and the precision of the network")
    return found


def _check_degrees(degrees: Sequence[int]) -> None:
    if not degrees or any(degree < 1 or degree % 2 == 0 for degree in degrees):
        raise ConfigurationError(f"degrees={tuple(degrees)}: give odd numbers of at least 1, such as (1, 3, 5)")


def _check_interval(interval: tuple[float, float]) -> None:
    if not 0 <= interval[0] < interval[1] <= 1:
        raise ConfigurationError(f"interval={interval}: give two numbers from 0 to 1, the smaller one first")


def _check_tokens(tokens: Tokens, references: Tokens) -> None:
    shape, other = tuple(tokens.shape), tuple(references.shape)
    if len(shape) != 4 or shape[2] < 1 or shape[2] - math.isqrt(shape[2]) ** 2 not in (0, 1):
        raise InputError(f"MuSc: tokens have shape {shape}; give (layers, images, g g or 1 + g g, C)")
    if len(other) != 4 or (shape[0], *shape[2:]) != (other[0], *other[2:]):
        raise InputError(
            f"MuSc: the references' tokens have shape {other}, those of the images {shape}; compute both with the same "
            "network and the same size of its input"
        )
    least = 2 if references is tokens else 1
    if shape[1] < 1 or other[1] < least:
        raise InputError(
            f"MuSc: {other[1]} image(s) to compare with; give at least 2 images of one kind, or images and references"
        )


def _chosen(
    choice: Sequence[Sequence[int]] | torch.Tensor, images: int, references: int, *, own: bool
) -> list[frozenset[int]]:
    listed = choice.tolist() if isinstance(choice, torch.Tensor) else choice
    chosen = [frozenset(int(number) for number in numbers) for numbers in listed]
    if len(chosen) != images:
        raise ConfigurationError(f"choice: {len(chosen)} lists for {images} images; give one list for each image")
    for image, numbers in enumerate(chosen):
        if not numbers or not numbers <= set(range(references)) or (own and image in numbers):
            raise ConfigurationError(
                f"choice[{image}]={sorted(numbers)[:5]}: give numbers from 0 to {references - 1}, at least one"
                + (", without the image itself" if own else "")
            )
    return chosen
