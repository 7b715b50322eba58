"""MuSc against the authors' program and against a plain form of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.mutual import MuSc, aggregate, interval_mean, mutual_scores, nearest_distances, scoring
from monai_zsad.mutual.products import average_grid
from monai_zsad.networks.maps import l2_normalize
from tests.conftest import shared_folder
from tests.mutual.reference import plain_aggregate, plain_musc, plain_scores
from tests.parity import bound_of, compare

FILES = sorted(path.name for path in (shared_folder() / "golden" / "mutual").glob("musc_*.npz"))
DEGREES = (1, 3, 5)


def random_tokens(layers: int = 2, images: int = 9, side: int = 6, width: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(layers, images, 1 + side * side, width, generator=generator)


@pytest.fixture(params=["one product", "one product for each degree"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_SHARED_PRODUCT", 1 if request.param == "one product" else 10**6)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("name", FILES or ["none"])
def test_golden(shared: Path, name: str) -> None:
    errors = compare(shared / "golden" / "mutual" / name)
    assert "amap" in errors
    assert {array: error for array, error in errors.items() if error > bound_of(array)} == {}


@pytest.mark.parametrize("degree", [1, 3, 5, 7])
def test_aggregation_is_adaptive_pooling(degree: int) -> None:
    tokens = random_tokens()[0].double()
    torch.testing.assert_close(aggregate(tokens, degree).double(), plain_aggregate(tokens, degree), atol=1e-6, rtol=0)


@given(height=st.integers(1, 6), width=st.integers(1, 6), degree=st.sampled_from([1, 3, 5, 7]), count=st.integers(1, 3))
def test_average_of_a_grid(height: int, width: int, degree: int, count: int) -> None:
    values = torch.randn(count, height * width, 2, dtype=torch.float64)
    grid = values.unflatten(1, (height, width)).numpy()
    half = degree // 2
    padded = np.pad(grid, ((0, 0), (half, half), (half, half), (0, 0)))
    expected = np.lib.stride_tricks.sliding_window_view(padded, (1, degree, degree, 1)).mean((-4, -3, -2, -1))
    found = average_grid(values, height, degree).unflatten(1, (height, width)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_as_the_plain_form(dtype: torch.dtype) -> None:
    tokens = random_tokens().to(dtype)
    found = mutual_scores(tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), plain_musc(tokens.double()), atol=5e-6, rtol=0)


@pytest.mark.usefixtures("products")
def test_tiles_give_the_same() -> None:
    """One MiB holds neither all buffers nor a whole product: pairs are computed twice, in bands of rows."""
    tokens, interval = random_tokens(layers=1, images=14, side=12), (0.0, 1.0)
    whole = mutual_scores(tokens, interval=interval)
    torch.testing.assert_close(mutual_scores(tokens, interval=interval, memory_mib=1), whole, atol=2e-6, rtol=0)


@pytest.mark.usefixtures("products")
def test_other_images_as_references() -> None:
    tokens, degrees = random_tokens(), (1, 3)
    queries, references = tokens[:, :3], tokens[:, 3:]
    found = mutual_scores(queries, references=references, degrees=degrees)
    for place, degree in enumerate(degrees):
        near = nearest_distances(aggregate(queries[0], degree), aggregate(references[0], degree))
        torch.testing.assert_close(found[place, 0], interval_mean(near), atol=2e-6, rtol=0)
    alone = mutual_scores(queries[:, 1:2], references=references, degrees=degrees)
    torch.testing.assert_close(alone[:, :, 0], found[:, :, 1], atol=2e-6, rtol=0)


@pytest.mark.usefixtures("products")
def test_chosen_references() -> None:
    tokens = random_tokens(images=6)
    choice = [[1, 2], [0, 5, 3], [0], [1, 2, 4, 5, 0], [0], [4]]
    found = mutual_scores(tokens, choice=choice, interval=(0.0, 1.0), degrees=(3,))
    for image, numbers in enumerate(choice):
        near = nearest_distances(aggregate(tokens[1, image : image + 1], 3), aggregate(tokens[1, numbers], 3))
        torch.testing.assert_close(found[0, 1, image], near.mean(0)[0], atol=2e-6, rtol=0)
    everyone = [[other for other in range(6) if other != image] for image in range(6)]
    torch.testing.assert_close(mutual_scores(tokens, choice=everyone), mutual_scores(tokens), atol=2e-6, rtol=0)


def test_tokens_on_disk(tmp_path: Path) -> None:
    tokens = random_tokens().half()
    kept = np.memmap(tmp_path / "tokens", np.float16, "w+", shape=tuple(tokens.shape))
    kept[:] = tokens.numpy()
    assert torch.equal(mutual_scores(kept), mutual_scores(tokens))


def test_tokens_without_a_class_token() -> None:
    tokens = random_tokens()
    assert torch.equal(mutual_scores(tokens[:, :, 1:]), mutual_scores(tokens))


@given(st.integers(2, 40), st.sampled_from([(0.0, 0.3), (0.1, 0.5), (0.5, 1.0), (0.9, 0.95)]))
def test_interval(count: int, interval: tuple[float, float]) -> None:
    values = torch.randperm(count).float()
    first, last = (int(count * part) for part in interval)
    expected = values.sort().values[first : max(last, first + 1)].mean()
    torch.testing.assert_close(interval_mean(values, interval), expected)


def test_fewer_than_four_references() -> None:
    """The release gives NaN here, the mean of no distance."""
    tokens = random_tokens(images=2)
    near = nearest_distances(aggregate(tokens[0, :1]), aggregate(tokens[0, 1:]))
    torch.testing.assert_close(mutual_scores(tokens, degrees=(1,))[0, 0, :1], near[0], atol=2e-6, rtol=0)


@pytest.mark.parametrize("tile", [1, 50, None])
def test_references_with_any_number_of_tokens(tile: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    queries, references = (
        torch.nn.functional.normalize(torch.randn(2, count, 8, generator=generator), dim=-1) for count in (5, 17)
    )
    references = references.half()
    found = nearest_distances(queries, references, tile=tile)
    expected = torch.cdist(queries.unsqueeze(0), l2_normalize(references).unsqueeze(1)).amin(-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_maps_and_scores() -> None:
    tokens, embeddings = random_tokens(), torch.randn(9, 4, generator=torch.Generator().manual_seed(2))
    found = MuSc()(tokens, embeddings, size=20)
    assert found.anomaly_map.shape == (9, 20, 20)
    torch.testing.assert_close(found.score, found.anomaly_map.flatten(1).amax(1))
    # Corners of the map are corners of the grid.
    torch.testing.assert_close(found.anomaly_map[:, 0, -1], found.grid[:, 5])
    assert torch.equal(MuSc()(tokens, size=20).set_score, found.score)


def test_an_odd_image_has_the_largest_score() -> None:
    base = random_tokens(images=1)
    tokens = base + 0.3 * random_tokens(images=8, seed=1)
    tokens[:, 5, 10:14] = 3 * torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(3))
    found = MuSc(degrees=(1, 3))(tokens)
    assert int(found.score.argmax()) == 5
    assert int(found.grid[5].argmax()) in range(9, 13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"degrees": (1, 2)}, "odd numbers"),
        ({"degrees": ()}, "odd numbers"),
        ({"interval": (0.3, 0.3)}, "smaller one first"),
        ({"interval": (0.0, 3.0)}, "from 0 to 1"),
        ({"k_list": (0,)}, "at least 1"),
        ({"memory_mib": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MuSc(**options)


@pytest.mark.parametrize(
    ("tokens", "options", "error", "message"),
    [
        (random_tokens(images=1), {}, InputError, "at least 2 images"),
        (random_tokens()[0], {}, InputError, "give \\(layers, images"),
        (random_tokens()[:, :, :20], {}, InputError, "give \\(layers, images"),
        (random_tokens(), {"references": random_tokens(width=8)}, InputError, "same network"),
        (random_tokens() * torch.nan, {}, InputError, "not finite"),
        (random_tokens(), {"choice": [[1]]}, ConfigurationError, "1 lists for 9 images"),
        (random_tokens(images=2), {"choice": [[1], [1]]}, ConfigurationError, "without the image itself"),
        (random_tokens(images=2), {"choice": [[1], [2]]}, ConfigurationError, "from 0 to 1"),
        (random_tokens(images=2), {"choice": [[1], []]}, ConfigurationError, "at least one"),
    ],
)
def test_input_that_cannot_be_used(
    tokens: torch.Tensor, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mutual_scores(tokens, **options)


def test_the_plain_form_is_the_definition() -> None:
    """Three images of one token each: distances by hand."""
    tokens = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, 0.0]]])
    assert plain_scores(tokens, (0.0, 1.0)).flatten().tolist() == pytest.approx(
        [(2**0.5 + 2) / 2, 2**0.5, (2**0.5 + 2) / 2]
    )
