from __future__ import annotations

import pytest
import torch

from monai_zsad.errors import ConfigurationError
from monai_zsad.flags import parse_flag
from monai_zsad.inferers import VolumeSliceInferer

WRONG = [
    ("batch_size", 0),
    ("batch_size", 2.0),
    ("batch_size", True),
    ("foreground_threshold", float("nan")),
    ("min_foreground", -0.1),
    ("min_foreground", 1.5),
    ("planes", "oblique"),
    ("planes", ()),
    ("planes", 3),
    ("planes", [["axial"]]),
    ("planes", ["axial", "axial"]),
    ("fusion", "median"),
    ("token_spacing_mm", 0),
    ("token_spacing_mm", "2"),
    ("roi_size", 0),
    ("roi_size", (32, 32, 32)),
    ("roi_size", (32, -1)),
    ("overlap", 1.0),
    ("overlap", -0.1),
    ("sw_mode", "linear"),
    ("slice_spacing_mm", 0),
    ("slice_spacing_mm", "near"),
    ("smooth_slices_mm", -1.0),
    ("device", "gpu"),
    ("device", 1.5),
    ("output_device", "nowhere"),
    ("amp_dtype", "int8"),
    ("amp_dtype", torch.float64),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}={value!r}" for name, value in WRONG])
def test_wrong_value_is_named_with_what_is_accepted(name, value):
    with pytest.raises(ConfigurationError, match=rf"^{name}=.*(must be|use) .*") as caught:
        VolumeSliceInferer(**{name: value})
    assert repr(value) in str(caught.value)


def test_window_is_set_in_one_way_only():
    with pytest.raises(ConfigurationError, match="token_spacing_mm"):
        VolumeSliceInferer(token_spacing_mm=2.0, roi_size=64)


def test_values_from_a_bundle_are_understood():
    inferer = VolumeSliceInferer(
        planes=["axial", "coronal"], roi_size=[32, 48], device="cpu", output_device="cpu", amp_dtype="bfloat16"
    )
    assert inferer.planes == ("axial", "coronal")
    assert inferer.roi_size == (32, 48)
    assert inferer.device == torch.device("cpu")
    assert inferer.amp_dtype is torch.bfloat16
    assert VolumeSliceInferer(planes="axial", roi_size=16).roi_size == (16, 16)


@pytest.mark.parametrize(("value", "found"), [("false", False), (" True ", True), (False, False), (True, True)])
def test_flags_may_come_as_words(value, found):
    assert parse_flag("amp", value) is found
    assert VolumeSliceInferer(amp=value, progress=value).amp is found


@pytest.mark.parametrize("value", ["yes", None, 2, "None"])
def test_other_flags_are_refused(value):
    with pytest.raises(ConfigurationError, match=r"amp=.*true or false"):
        VolumeSliceInferer(amp=value)
