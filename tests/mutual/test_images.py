"""Choice of references and RsCIN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_zsad.errors import ConfigurationError
from monai_zsad.mutual import choose_references, mutual_scores, rscin


def embeddings(count: int = 8) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(0))


def slow_rscin(scores: np.ndarray, unit: np.ndarray, k_list: list[int]) -> np.ndarray:
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    similar = unit @ unit.T
    means = []
    for k in k_list:
        kept = np.where(similar >= np.sort(similar, axis=1)[:, [-k]], similar, 0)
        means.append(kept / kept.sum(1, keepdims=True) @ scaled)
    return np.mean(means, axis=0)


def test_rscin() -> None:
    unit = torch.nn.functional.normalize(embeddings() + 2, dim=1)
    scores = torch.rand(8, generator=torch.Generator().manual_seed(1))
    expected = slow_rscin(scores.double().numpy(), unit.double().numpy(), [1, 3, 8])
    np.testing.assert_allclose(rscin(scores, 5 * unit, [1, 3, 8]).numpy(), expected, atol=1e-6)


def test_rscin_of_few_or_equal_images() -> None:
    assert rscin(torch.tensor([1.0, 2.0]), torch.eye(2), [1, 8, 9]).tolist() == [0.0, 1.0]
    assert rscin(torch.ones(3), torch.eye(3)).tolist() == [0.0, 0.0, 0.0]


def test_nearest_references() -> None:
    queries, others = embeddings(), embeddings(20)[8:]
    found = choose_references(queries, others, count=3)
    cosines = torch.nn.functional.cosine_similarity(queries[:, None], others[None], dim=-1)
    assert torch.equal(found, cosines.argsort(1, descending=True)[:, :3])
    within = choose_references(queries, count=100)
    assert [sorted(row) for row in within.tolist()] == [[j for j in range(8) if j != i] for i in range(8)]


def test_random_references() -> None:
    first, again, other = (choose_references(embeddings(), count=3, how="random", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert all(image not in row and len(set(row)) == 3 for image, row in enumerate(first.tolist()))
    tokens = torch.randn(1, 8, 9, 4)
    assert mutual_scores(tokens, choice=first).shape == (3, 1, 8, 9)


def test_choices_that_cannot_be_used() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        choose_references(embeddings(), count=0)
    with pytest.raises(ConfigurationError, match="'nearest' or 'random'"):
        choose_references(embeddings(), count=1, how="far")  # type: ignore[arg-type]
