from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms import (
    BodyMask,
    CTWindow,
    ForegroundPercentileScale,
    ForegroundPercentileScaled,
    ScanIntensity,
    ScanIntensityd,
)


def scan(modality: str | None = None, air: int = 8) -> MetaTensor:
    """A noisy cube of tissue in ``air`` voxels of air on each side."""
    values = np.random.default_rng(0).normal(500, 100, (24, 24, 24)).astype(np.float32)
    image = np.pad(values, air)
    meta = {} if modality is None else {"modality": modality}
    return MetaTensor(torch.from_numpy(image)[None], meta=meta)


def test_percentiles_of_the_body_do_not_depend_on_the_air():
    small, large = ForegroundPercentileScale()(scan(air=2)), ForegroundPercentileScale()(scan(air=12))
    inner_small, inner_large = small[:, 2:26, 2:26, 2:26], large[:, 12:36, 12:36, 12:36]
    torch.testing.assert_close(inner_small.as_tensor(), inner_large.as_tensor(), rtol=0, atol=1e-6)


def test_percentiles_become_0_and_1():
    image = scan()
    inside = image[0, 8:32, 8:32, 8:32].numpy()
    low, high = np.percentile(inside, (2, 90))
    out = ForegroundPercentileScale(2, 90, foreground=lambda img: img > 0)(image)
    assert out.dtype == torch.float32
    expected = np.clip((image.numpy() - low) / (high - low), 0, 1)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-5)
    assert (out == 0).float().mean() > 0.5
    assert out.meta["intensity"] == f"percentiles 2 to 90 of the foreground ({low:g} to {high:g})"
    assert "intensity" not in image.meta


def test_channels_are_scaled_by_themselves():
    one = scan()
    two = torch.cat([one, 10 * one + 5])
    out = ForegroundPercentileScale(foreground=lambda img: img[:1] > 0)(two)
    torch.testing.assert_close(out[0], out[1], rtol=0, atol=1e-4)


def test_mask_key_is_used():
    image = scan()
    mask = torch.zeros(1, 40, 40, 40)
    mask[:, 10:20, 10:20, 10:20] = 1
    out = ForegroundPercentileScaled("image", 0, 100, mask_key="mask")({"image": image, "mask": mask})["image"]
    part = out[:, 10:20, 10:20, 10:20]
    assert (float(part.min()), float(part.max())) == (0.0, 1.0)
    with pytest.raises(InputError, match="one grid"):
        ForegroundPercentileScaled("image", mask_key="mask")({"image": image, "mask": mask[:, 1:]})


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((1, 4, 4, 4), 3.0), "constant in its foreground.*both 3"),
        (torch.full((1, 4, 4, 4), float("nan")), "64 of 64 voxels"),
    ],
)
def test_unusable_volumes(image, message):
    with pytest.raises(InputError, match=message):
        ForegroundPercentileScale()(image)


def test_empty_foreground():
    with pytest.raises(InputError, match="empty foreground"):
        ForegroundPercentileScale(foreground=lambda img: img > 1e9)(scan())


@pytest.mark.parametrize(("lower", "upper"), [(50, 50), (-1, 99), (1, 101), (99, 1)])
def test_bad_percentiles(lower, upper):
    with pytest.raises(ConfigurationError, match="0 <= lower < upper <= 100"):
        ForegroundPercentileScale(lower, upper)


@pytest.mark.parametrize(
    ("window", "modality", "record"),
    [
        ("auto", "CT", "CT window soft_tissue 40/400 HU"),
        ("auto", "ct ", "CT window soft_tissue 40/400 HU"),
        ("auto", "MR", "percentiles 0.5 to 99.5"),
        ("auto", None, "percentiles 0.5 to 99.5"),
        ("percentile", "CT", "percentiles 0.5 to 99.5"),
        ("lung", None, "CT window lung -600/1500 HU"),
        ([40, 80], "MR", "CT window 40/80 HU"),
        (["brain", "subdural", [600, 2800]], "CT", "CT windows brain 40/80 HU, subdural 75/215 HU, 600/2800 HU"),
    ],
)
def test_the_switch_and_its_record(window, modality, record):
    image = scan(modality)
    out = ScanIntensityd("image", window)({"image": image})["image"]
    assert out.meta["intensity"].startswith(record)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    if record.startswith("CT"):
        expected = CTWindow("soft_tissue" if window == "auto" else window)(image)
    else:
        expected = ForegroundPercentileScale()(image)
    assert torch.equal(out.as_tensor(), expected.as_tensor())
    assert "intensity" not in image.meta


def test_ct_window_of_auto():
    assert ScanIntensity(ct_window="brain")(scan("CT")).meta["intensity"] == "CT window brain 40/80 HU"


def test_unknown_window_names_all_that_is_accepted():
    with pytest.raises(ConfigurationError, match=r"window='percentiles'.*did you mean percentile.*auto.*brain"):
        ScanIntensity("percentiles")
    with pytest.raises(ConfigurationError, match="ct_window='autos'"):
        ScanIntensity(ct_window="autos")


def test_mask_of_a_windowed_ct_is_the_mask_of_the_ct():
    image = scan("CT") - 400
    differs = BodyMask()(image) != BodyMask()(ScanIntensity([100, 600])(image))
    assert float(differs.float().mean()) < 1e-3


@pytest.mark.parametrize("window", ["auto", "percentile", "brain", [40, 80]])
def test_photographs_keep_their_colours(window):
    pixels = torch.tensor([[214.0, 118], [162, 72], [148, 51]]).reshape(3, 2, 1, 1)
    out = ScanIntensity(window)(MetaTensor(pixels, meta={"colour": "RGB"}))
    torch.testing.assert_close(out.as_tensor(), pixels / 255, rtol=0, atol=0)
    assert out.meta["intensity"] == "8-bit colour divided by 255"


def test_three_channels_that_are_no_photograph_are_scaled_as_before():
    volume = MetaTensor(torch.cat([scan().as_tensor()] * 3), meta={"colour": ""})
    out = ScanIntensity()(volume)
    torch.testing.assert_close(out[1:2].as_tensor(), ScanIntensity()(scan()).as_tensor(), rtol=0, atol=0)
