"""What the included model's network sees, and its maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks import ScreeningCLIP
from monai_zsad.training.initialisation import initialize_small_clip
from tests.networks.small import CONFIG, PARTS, SIDE, SIZE, SLICES, small_network


def filled() -> ScreeningCLIP:
    network = small_network()
    initialize_small_clip(network, 3)
    network.update_text_anchors()
    return network


def test_channels_by_their_definition() -> None:
    network = small_network(fine=2.0, coarse=5.0)
    seen = network.normalize(SLICES).numpy()
    assert seen.shape[1] == network.channels == 6
    for picture, found in zip(SLICES.numpy().astype(np.float64), seen, strict=True):
        below, middle, above = picture
        body = (middle > 0.03).astype(np.float64)
        for channel, image in enumerate((middle, below, above)):
            np.testing.assert_allclose(found[channel], (image - 0.4) / 0.25, atol=1e-5)
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
    assert not torch.allclose(bright[:, 0], dark[:, 0], atol=0.1)


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
    assert found.shape == (3, 2, SIZE, SIZE)
    assert ((found >= 0) & (found <= 1)).all()
    assert found[:, 0].std() > 1e-3
    torch.testing.assert_close(found[:, 1, 0, 0], found[:, 0].flatten(1).amax(1))
    assert torch.equal(slices, SLICES)
    assert torch.equal(network(slices), found)
    torch.testing.assert_close(network(slices[1:2]), found[1:2], atol=2e-5, rtol=0)
    assert network(slices[:, :1, :30]).shape == (3, 2, 30, SIZE)
    # One channel stands for its own neighbours.
    torch.testing.assert_close(network(slices[:, 1:2]), network(slices[:, 1:2].expand(-1, 3, -1, -1)))


@torch.no_grad()
def test_features_have_their_places() -> None:
    network = filled()
    images = network.normalize(SLICES)
    (seg,), det = network.features(images)
    assert seg.shape == (3, (SIDE * PARTS) ** 2, CONFIG["embed_dim"])
    assert det.shape == (3, CONFIG["embed_dim"])
    positions = network.clip.visual.positional_embedding[1:]
    grid, _ = network.dense_features(images, positions)
    assert grid.shape[-2:] == (SIDE * PARTS, SIDE * PARTS)
    row_by_row = grid.permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(seg, torch.nn.functional.normalize(row_by_row, dim=-1), atol=1e-5, rtol=0)
    changed = images.clone()
    changed[:, :, 24:26, 10:12] += 5
    difference = (network.dense_features(changed, positions)[0] - grid).norm(dim=1)
    for each in difference:
        row, column = divmod(int(each.argmax()), SIDE * PARTS)
        # Within the convolutions' field of view; rows are not columns.
        assert abs(row - 12) <= 4
        assert abs(column - 5) <= 4


@torch.no_grad()
def test_bfloat16() -> None:
    network = filled()
    exact = network(SLICES)
    network.set_precision("bfloat16")
    # Values that nothing has trained give steep maps: single pixels differ by up to 0.19.
    assert (network(SLICES) - exact).abs().mean() < 0.02
    assert network.fine_mean.dtype == torch.float32


def test_filters_are_not_in_the_weights() -> None:
    assert not [key for key in small_network().state_dict() if key.endswith("_mean") and "running" not in key]


def test_patches_that_do_not_fit_the_convolutions() -> None:
    vision = CONFIG["vision_cfg"] | {"patch_size": 10}
    with pytest.raises(ConfigurationError, match="patch_size=10: give a multiple of 4"):
        ScreeningCLIP(CONFIG | {"vision_cfg": vision})
