"""Calibration: 0.5 is the best threshold, few normal slices have a candidate, and unlike slices are told."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import expected_calibration_error
from monai_zsad.networks import ScreeningCLIP
from monai_zsad.networks.base import Prediction
from monai_zsad.networks.maps import grid_to_map
from monai_zsad.training.calibrating import _whitening, best_threshold, fit_calibration, platt_scaling, slice_values

RNG = np.random.default_rng(0)
SIZE, SIDE = 24, 12
BLOCKS = np.repeat([4, 9, 14], 40)


class _Bright(nn.Module):
    """A network that finds bright pixels abnormal."""

    score_share = 0.05

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calibration", torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        self.register_buffer("known_mean", torch.zeros(6))
        self.register_buffer("known_basis", torch.zeros(6, 6))
        self.register_buffer("known_limit", torch.ones(()))

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def predict(self, images: torch.Tensor) -> Prediction:
        logits = 3 * (nn.functional.avg_pool2d(images, 2)[:, 1] - 0.4)
        context = torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)
        return Prediction(logits, logits.flatten(1).amax(1), {"logits": logits, "context": context})


Bright: Any = _Bright  # it stands for a ScreeningCLIP


def slices(count: int, lesion: float, rng: np.random.Generator = RNG) -> np.ndarray:
    """Noise (N, S, S), with a bright square of random brightness if ``lesion`` is above 0."""
    images = rng.normal(0.3, 0.04, (count, SIZE, SIZE))
    images[:, 8:16, 8:16] += np.abs(rng.normal(lesion, 0.15, (count, 1, 1))) * (lesion > 0)
    images += rng.uniform(0, 0.2, (count, 1, 1))
    return images.clip(0, 1).astype(np.float32)


def fitted(**options: Any) -> tuple[Any, dict[str, Any]]:
    network = Bright()
    data: dict[str, Any] = {"tumours": (slices(120, 0.3), BLOCKS), "normal": slices(90, 0), "known": slices(200, 0.2)}
    return network, fit_calibration(network, **data, **options)


def test_half_is_the_best_threshold_and_the_error_falls() -> None:
    network, record = fitted()
    score = record["score"]
    assert network.calibration[1].tolist() == pytest.approx([score["scale"], score["offset"]])
    fresh = {"abnormal": slices(200, 0.3), "normal": slices(200, 0)}
    found = {k: score["scale"] * slice_values(network, v).score + score["offset"] for k, v in fresh.items()}
    index = {t: (found["abnormal"] > t).mean() + (found["normal"] <= t).mean() for t in (-3.0, -2.0, 0.0, 2.0, 3.0)}
    assert index[0.0] > 1.6
    assert index[0.0] > max(index[-3.0], index[3.0]) + 0.02
    assert score["sensitivity"] > 0.7 < score["specificity"]
    assert score["calibration_error_after"] < 0.15 < score["calibration_error_before"]
    error = expected_calibration_error(expit(np.r_[found["abnormal"], found["normal"]]), np.repeat([1, 0], 200))
    assert error < 0.15
    assert json.loads(json.dumps(record)) == record


def test_calibration_error_is_of_blocks_that_were_not_fitted() -> None:
    """A block whose tumours look normal would be fitted if it were seen."""
    network = Bright()
    images = slices(120, 0.3)
    images[80:] = slices(40, 0)
    record = fit_calibration(network, tumours=(images, BLOCKS), normal=slices(90, 0), known=images)["score"]
    assert record["calibration_error_after"] > 0.1
    assert record["sensitivity"] < 0.8


@pytest.mark.parametrize("alarms", [0.1, 0.3])
def test_few_normal_slices_have_a_candidate(alarms: float) -> None:
    network, record = fitted(alarms=alarms)
    assert record["map"]["normal_with_candidate"] == pytest.approx(alarms, abs=0.02)
    assert record["map"]["tumour_with_candidate"] > record["map"]["normal_with_candidate"] + 0.3
    assert network.calibration[0].tolist() == pytest.approx([1.0, record["map"]["offset"]])


def test_small_regions_are_no_candidates() -> None:
    images = np.zeros((2, SIZE, SIZE), np.float32)
    images[0, 2:4, 2:4] = 1  # one pixel of the map
    images[1, 2:10, 2:8] = 1  # twelve
    one, other = slice_values(Bright(), images).peak
    flat = slice_values(Bright(), images * 0).peak[0]
    assert one == pytest.approx(flat)
    assert other > flat + 1
    assert slice_values(Bright(), images, least_pixels=1).peak[0] == pytest.approx(other)


def test_unlike_slices_are_far_away() -> None:
    network, record = fitted()

    def distance(images: np.ndarray) -> np.ndarray:
        context = torch.from_numpy(slice_values(network, images).context).float()
        return ((context - network.known_mean) @ network.known_basis).norm(dim=1).numpy() / float(network.known_limit)

    assert np.mean(distance(slices(200, 0.3)) <= 1) > 0.9
    assert (distance(RNG.uniform(0, 1, (20, SIZE, SIZE)).astype(np.float32)) > 1.5).all()
    assert record["known"]["familiar"] == pytest.approx(0.99, abs=0.01)
    assert (network.known_basis.abs().sum(0) > 0).sum() == 2, "the channels are equal: mean and spread are left"


def test_a_deviation_in_a_direction_without_much_variance_is_far_away() -> None:
    rng = np.random.default_rng(3)
    # One axis of large variance, which is the only one with a variance of its own; the others share theirs.
    known = np.c_[rng.normal(0, 5, 4000), rng.normal(0, 0.1, (4000, 5))]
    mean, basis = _whitening(known, 1)
    lengths = [np.linalg.norm((np.array(one) - mean) @ basis) for one in ([5, 0, 0, 0, 0, 0], [0, 0, 0, 0.5, 0, 0])]
    assert lengths == pytest.approx([1, 5], rel=0.05)


def test_types_of_images_agree() -> None:
    flat = (slices(3, 0.3) * 255).astype(np.uint8)
    stacked = torch.from_numpy(np.repeat(flat[:, None], 3, 1)) / 255
    one, other = (slice_values(Bright(), images, batch_size=2) for images in (flat, stacked))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5)


def test_platt_scaling_finds_the_true_probability() -> None:
    logits = RNG.normal(0, 2, 20000)
    abnormal = RNG.uniform(size=20000) < expit(0.5 * logits - 0.2)
    scale, offset = platt_scaling(logits[abnormal], logits[~abnormal])
    prior = np.log(abnormal.mean() / (1 - abnormal.mean()))  # the classes count equally
    assert (scale, offset) == pytest.approx((0.5, -0.2 - prior), abs=0.05)
    assert np.isfinite(platt_scaling(np.array([5.0, 6.0]), np.array([0.0, 1.0]))).all()


def test_best_threshold_of_all_thresholds() -> None:
    abnormal, normal = RNG.normal(1, 1, 50), RNG.normal(0, 1, 70)

    def index(t: float) -> float:
        return float((abnormal > t).mean() + (normal <= t).mean())

    assert index(best_threshold(abnormal, normal)) == max(index(t) for t in np.linspace(-4, 5, 2000))


def test_too_few_slices() -> None:
    images = slices(4, 0.3)
    for blocks, normal, known in (
        (np.zeros(4), 4, 4),
        (np.arange(4), 3, 4),
        (np.arange(4), 4, 1),
        (np.arange(3), 4, 4),
    ):
        with pytest.raises(ConfigurationError, match="blocks"):
            fit_calibration(Bright(), tumours=(images, blocks), normal=images[:normal], known=images[:known])


def test_the_network_uses_what_was_fitted() -> None:
    vision = {"image_size": 32, "patch_size": 8, "timm_model_name": "tf_efficientnet_lite0"}
    network = ScreeningCLIP({"embed_dim": 16, "vision_cfg": vision, "text_cfg": {"width": 32, "heads": 1, "layers": 1}})
    network.load_weights(model="seed:0")
    images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data: dict[str, Any] = {"tumours": (images[:4], np.repeat([0, 1], 2)), "normal": images[4:8], "known": images}
    record = fit_calibration(network, **data, least_pixels=1)
    with torch.no_grad():
        found = network(images)
    raw = slice_values(network, images)
    score = record["score"]["scale"] * raw.score + record["score"]["offset"]
    np.testing.assert_allclose(found[:, 1, 0, 0], expit(score), atol=1e-4)
    # At its own resolution, the map exceeds 0.5 in one of the four normal slices: 0.9 is above three of them.
    with torch.no_grad():
        logits = network.predict(network.normalize(images)).details["logits"] + record["map"]["offset"]
    assert (logits[4:8].flatten(1).amax(1) > 0).sum() == 1
    np.testing.assert_allclose(found[:, 0], torch.sigmoid(grid_to_map(logits.flatten(1), 32)), atol=1e-5)
    far = np.linalg.norm((raw.context - network.known_mean.numpy()) @ network.known_basis.numpy(), axis=1)
    np.testing.assert_allclose(found[:, 2, 0, 0], far / record["known"]["limit"], rtol=1e-2)
