"""What the included model's network sees, and its maps, scores and distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.networks import ScreeningCLIP, with_runtime
from tests.networks.small import CONFIG, SIZE, SLICES, small_network


def filled(**options) -> ScreeningCLIP:
    network = small_network(**options)
    network.load_weights(model="seed:3")
    # Random values give similarities that are too large to tell pixels apart.
    network.calibration[:, 0] = 0.02
    return network


def test_channels_by_their_definition() -> None:
    network = small_network(fine=2.0, coarse=5.0)
    seen = network.normalize(SLICES).numpy()
    assert seen.shape[1] == 6
    pictures: np.ndarray = SLICES.numpy().astype(np.float64)
    for picture, found in zip(pictures, seen, strict=True):
        below, middle, above = picture
        body = (middle > 0.03).astype(np.float64)
        for channel, image in enumerate((below, middle, above)):
            np.testing.assert_allclose(found[channel], (image - 0.45) / 0.225, atol=1e-5)
        for channel, image, sigma in ((3, middle, 2.0), (4, (below + above) / 2, 5.0)):
            # Beyond the border the image is mirrored, its edge repeated.
            radius = round(3 * sigma)
            weighted = gaussian_filter(image * body, sigma, mode="reflect", radius=radius)
            mean = weighted / np.maximum(gaussian_filter(body, sigma, mode="reflect", radius=radius), 0.05)
            difference = (image - mean) * body
            spread = np.sqrt((difference**2).sum() / body.sum())
            np.testing.assert_allclose(found[channel], np.clip(difference / spread, -5, 5), atol=2e-4)
        # Of one of 64 values that are about as frequent, pixels are not told apart.
        inside = np.sort(middle[body > 0])
        rank = 2 * np.searchsorted(inside, middle) / len(inside) - 1
        np.testing.assert_allclose(found[5], rank * body, atol=0.03)


def test_local_contrast_does_not_depend_on_the_scale() -> None:
    pictures = (0.2 + 0.8 * SLICES) * (SLICES > 0)
    bright, dark = small_network().normalize(pictures), small_network().normalize(0.5 * pictures)
    torch.testing.assert_close(bright[:, 3:5], dark[:, 3:5], atol=1e-4, rtol=0)
    torch.testing.assert_close(bright[:, 5], dark[:, 5], atol=0.05, rtol=0)
    assert not torch.allclose(bright[:, 1], dark[:, 1], atol=0.1)


def test_a_spot_stands_out_in_its_own_slice() -> None:
    picture = torch.full((1, 3, SIZE, SIZE), 0.5)
    picture[:, 1, 18:22, 18:22] = 0.9
    picture[:, 0, 30:34, 8:12] = 0.1
    own, beside, rank = small_network().normalize(picture)[0, 3:]
    assert own[18:22, 18:22].min() > 2
    assert own[30:34, 8:12].abs().max() < 0.5
    assert beside[30:34, 8:12].max() < -1
    assert beside[18:22, 18:22].abs().max() < 0.5
    assert rank[18:22, 18:22].min() > 0.99
    turned = small_network().normalize(picture.flip(1))[0]
    assert torch.equal(turned[3:], torch.stack([own, beside, rank]))


def test_air_is_nothing() -> None:
    assert not small_network().normalize(SLICES)[:, 3:, :6].any()
    empty = small_network().normalize(torch.zeros(1, 3, SIZE, SIZE))
    assert empty.isfinite().all()
    assert not empty[:, 3:].any()


@torch.no_grad()
def test_maps() -> None:
    network, slices = filled(), SLICES.clone()
    found = network(slices)
    assert found.shape == (3, 3, SIZE, SIZE)
    assert ((found[:, :2] >= 0) & (found[:, :2] <= 1)).all()
    assert found[:, 0].std() > 1e-3
    assert torch.equal(slices, SLICES)
    assert torch.equal(network(slices), found)
    torch.testing.assert_close(network(slices[1:2]), found[1:2], atol=2e-5, rtol=0)
    assert network(slices[:, :1, :30]).shape == (3, 3, 30, SIZE)
    # One channel stands for its own neighbours.
    torch.testing.assert_close(network(slices[:, 1:2]), network(slices[:, 1:2].expand(-1, 3, -1, -1)))


@torch.no_grad()
def test_neighbours_count_and_their_order_too() -> None:
    network = filled()
    below = SLICES.clone()
    below[:, 0] = below[:, 0].flip(-1)
    assert (network(below)[:, 0] - network(SLICES)[:, 0]).abs().max() > 1e-3
    assert (network(SLICES.flip(1))[:, 0] - network(SLICES)[:, 0]).abs().max() > 1e-3


@torch.no_grad()
def test_features_have_their_places() -> None:
    network = filled()
    images = network.normalize(SLICES)
    (seg,), det = network.features(images)
    assert seg.shape == (3, (SIZE // 2) ** 2, CONFIG["embed_dim"])
    assert det.shape == (3, CONFIG["embed_dim"])
    grid, context = network.dense_features(images)
    assert grid.shape[-2:] == (SIZE // 2, SIZE // 2)
    assert context.shape == network.known_mean.expand(3, -1).shape
    torch.testing.assert_close(seg.norm(dim=-1), torch.ones(seg.shape[:2]))
    changed = images.clone()
    changed[:, :, 40:42, 10:12] += 5
    difference = (network.dense_features(changed)[0] - grid).norm(dim=1)
    for each in difference:
        row, column = divmod(int(each.argmax()), SIZE // 2)
        # Rows are not columns.
        assert abs(row - 20) <= 4
        assert abs(column - 5) <= 4


@torch.no_grad()
def test_the_map_is_the_comparison_with_the_prompts() -> None:
    network = filled()
    network.calibration.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    # Anchors that are near each other give logits that a softmax in single precision still tells apart.
    both = network.text_anchors.new_ones(1, 2, 1) * torch.linspace(-1, 1, network.text_anchors.shape[-1])
    both[:, 1, ::2] += 0.02
    network.text_anchors = torch.nn.functional.normalize(both, dim=-1)
    details = network.predict(network.normalize(SLICES)).details
    seg = network.features(network.normalize(SLICES))[0][0]
    similarities = 100 * seg @ network.text_anchors[0].T
    expected = similarities.softmax(-1)[..., 1].logit(eps=1e-6).reshape(details["logits"].shape)
    assert 0.01 < expected.abs().max() < 8
    torch.testing.assert_close(details["logits"], expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_the_score_is_that_of_the_highest_pixels() -> None:
    network = filled(score_share=0.01)
    logits = network.predict(network.normalize(SLICES)).details["logits"].flatten(1)
    highest = logits.sort(dim=1, descending=True).values[:, : round(0.01 * logits.shape[1])].mean(1)
    torch.testing.assert_close(network(SLICES)[:, 1, 0, 0], torch.sigmoid(0.02 * highest))


@torch.no_grad()
def test_the_calibration_moves_map_and_score() -> None:
    network = filled()
    before = network(SLICES)
    network.calibration.copy_(torch.tensor([[0.02, 1.0], [0.02, -1.0]]))
    after = network(SLICES)
    assert (after[:, 0] > before[:, 0]).all()
    torch.testing.assert_close(after[:, 1].logit(), before[:, 1].logit() - 1, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_unfamiliarity_is_a_distance_along_the_axes() -> None:
    network = filled()
    assert not network(SLICES)[:, 2].any()
    context = network.dense_features(network.normalize(SLICES))[1]
    network.known_mean.copy_(context[0])
    network.known_basis[5, 0] = 1.0
    network.known_limit.fill_(0.5)
    found = network(SLICES)[:, 2, 0, 0]
    torch.testing.assert_close(found, (context - context[0])[:, 5].abs() / 0.5, atol=1e-4, rtol=1e-4)
    assert found[1] > 0


@torch.no_grad()
def test_weights_travel_with_calibration_and_known_data(tmp_path: Path) -> None:
    network = filled()
    network.known_basis.normal_()
    torch.save(network.portable_state_dict(), tmp_path / "model.pt")
    other = small_network()
    other.load_weights(model=tmp_path / "model.pt")
    assert torch.equal(other(SLICES), network(SLICES))
    assert network(SLICES)[:, 2].min() > 0


@torch.no_grad()
def test_bfloat16() -> None:
    network = filled()
    exact = network(SLICES)
    network.set_precision("bfloat16")
    assert network.known_mean.dtype == network.calibration.dtype == torch.float32
    assert (network(SLICES)[:, :2] - exact[:, :2]).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("vision", "size", "named"),
    [
        ({"timm_model_name": "tf_efficientnet_lite00"}, SIZE, "tf_efficientnet_lite0"),
        ({"timm_model_name": "resnetv2_50d_gn"}, 40, "multiple of 32"),
        ({"timm_model_name": "convnext_atto"}, SIZE, "1/4"),
    ],
)
def test_an_encoder_that_does_not_fit(vision: dict[str, str], size: int, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        ScreeningCLIP(CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | vision}, size)


def test_the_architecture_of_an_earlier_release() -> None:
    vision = {"image_size": 192, "layers": 4, "width": 192, "patch_size": 8}
    with pytest.raises(ConfigurationError, match="timm_model_name"):
        ScreeningCLIP(CONFIG | {"vision_cfg": vision})


def test_weights_of_an_earlier_release(tmp_path: Path) -> None:
    torch.save({"at_half.0.conv.weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="earlier release"):
        small_network().load_weights(model=tmp_path / "model.pt")


def test_a_faster_network_gives_the_same() -> None:
    network = small_network()
    network.load_weights(model="seed:0")
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean = 0.1 * torch.randn(part.num_features, generator=generator)
            part.running_var = 0.5 + torch.rand(part.num_features, generator=generator)
    with torch.no_grad():
        expected = network(SLICES)
        found = with_runtime(network)(SLICES)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(with_runtime(network)(SLICES), found), "a second time changes nothing"


def test_weights_can_still_be_loaded_into_a_network_without_any() -> None:
    network = small_network()
    with_runtime(network)
    network.load_weights(model="seed:0")
    assert network.records
