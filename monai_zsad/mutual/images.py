"""What the embeddings of whole images decide: which references an image has, and which images share their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.maps import l2_normalize

__all__ = ["choose_references", "rscin"]

_SMALLEST = 1e-12


def choose_references(
    embeddings: torch.Tensor,
    references: torch.Tensor | None = None,
    *,
    count: int,
    how: Literal["nearest", "random"] = "nearest",
    seed: int = 0,
) -> torch.Tensor:
    """A subset of the references for each image, so that the cost grows with ``count`` and not with the set.

    Args:
        embeddings: (N, D), one for each image.
        references: (R, D), embeddings of other images; None for the set itself, where no image is its own reference.
        count: number of references of an image; all if there are fewer.
        how: ``"nearest"`` for those with the most similar embeddings; ``"random"``.
        seed: seed of the random choice.

    Returns:
        (N, count), numbers of the references.

    Raises:
        ConfigurationError: if ``count`` is below 1, or ``how`` is unknown.

    Example:
        >>> choose_references(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]), count=1)
        tensor([[2],
                [2],
                [0]])
    """
    if count < 1:
        raise ConfigurationError(f"count={count}: give at least 1 reference")
    queries = l2_normalize(embeddings)
    if how == "nearest":
        values = queries @ (queries if references is None else l2_normalize(references)).T
    elif how == "random":
        shape = (len(queries), len(queries if references is None else references))
        values = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(queries.device)
    else:
        raise ConfigurationError(f"how={how!r} is unknown: choose 'nearest' or 'random'")
    if references is None:
        values.fill_diagonal_(-math.inf)
    return torch.topk(values, min(count, values.shape[1] - (references is None)), dim=1).indices


def rscin(scores: torch.Tensor, embeddings: torch.Tensor, k_list: Sequence[int] = (1, 2, 3)) -> torch.Tensor:
    """RsCIN: the scores of a set, scaled to [0, 1], averaged over images with similar embeddings.

    Args:
        scores: (N,).
        embeddings: (N, D), normalised here.
        k_list: numbers of most similar images, the image itself included; the result is the mean over them.

    Returns:
        (N,), of the type of the scores. Zeros if all scores are equal.

    Example:
        >>> rscin(torch.tensor([1.0, 3.0, 2.0]), torch.eye(3), [1])
        tensor([0.0000, 1.0000, 0.5000])
    """
    scaled = scores - scores.min()
    scaled = scaled / scaled.max().clamp_min(_SMALLEST)
    unit = l2_normalize(embeddings).to(scores.dtype)
    largest, images = torch.topk(unit @ unit.T, min(max(k_list), len(scores)), dim=1)
    means = [(largest[:, :k] * scaled[images[:, :k]]).sum(1) / largest[:, :k].sum(1) for k in k_list]
    return torch.stack(means).mean(0)
