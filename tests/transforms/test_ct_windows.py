from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms import CT_WINDOWS, CTWindow, CTWindowD, CTWindowd, parse_windows


def hu(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


@pytest.mark.parametrize("name", CT_WINDOWS)
def test_every_named_window_maps_its_ends_and_its_level(name):
    level, width = CT_WINDOWS[name]
    out = CTWindow(name)(hu(level - width, level - width / 2, level, level + width / 2, level + width))
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.flatten(), [0, 0, 0.5, 1, 1], atol=1e-6)


def test_table_cannot_be_changed():
    with pytest.raises(TypeError):
        CT_WINDOWS["brain"] = (0.0, 1.0)  # type: ignore[index]


def test_three_windows_become_three_channels_in_order():
    scan = MetaTensor(torch.arange(-1000, 1000, 8).reshape(1, 25, 10, 1).to(torch.int16), meta={"modality": "CT"})
    out = CTWindow(["brain", (-600, 1500), "bone"])(scan)
    assert out.shape == (3, 25, 10, 1)
    assert out.meta["modality"] == "CT"
    for channel, window in enumerate(["brain", "lung", "bone"]):
        torch.testing.assert_close(out[channel], CTWindow(window)(scan)[0], rtol=0, atol=0)
    assert scan.dtype == torch.int16


@pytest.mark.parametrize("spec", [[40, 80], (40.0, 80.0), "brain", "Brain ", ["brain"], [[40, 80]]])
def test_spellings_of_one_window(spec):
    (window,) = parse_windows(spec)
    assert (window.level, window.width) == (40.0, 80.0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("brian", "did you mean brain.*subdural"),
        (["brain", "bone"], "one window, or three"),
        ([40, 80, 100], "one window, or three"),
        ([40], "one window, or three"),
        ([], "one window, or three"),
        ([40, 0], "width above 0"),
        ([40, -80], "width above 0"),
        ([float("nan"), 80], "finite"),
        ([True, 80], "one window, or three|not a CT window"),
        (40, "not a CT window"),
        (["40", "80"], "one window, or three"),
        ([["brain", 80]], "not a CT window"),
    ],
)
def test_refused_windows(spec, message):
    with pytest.raises(ConfigurationError, match=message):
        CTWindow(spec)


def test_three_windows_need_one_channel():
    with pytest.raises(InputError, match="2 channels"):
        CTWindow(["brain", "lung", "bone"])(torch.zeros(2, 3, 3, 3))


def test_non_finite_and_wrong_rank_are_refused():
    with pytest.raises(InputError, match="1 of 2 voxels"):
        CTWindow("brain")(hu(float("nan"), 1))
    with pytest.raises(InputError, match=r"\(C, X, Y, Z\)"):
        CTWindow("brain")(torch.zeros(3, 3, 3))


def test_dictionary_form_leaves_the_rest_alone():
    data: dict[Hashable, torch.Tensor] = {"image": hu(0, 40), "other": hu(7)}
    out = CTWindowd(["image", "missing"], "brain", allow_missing_keys=True)(data)
    assert out["image"].flatten().tolist() == [0.0, 0.5]
    assert out["other"] is data["other"]
    assert data["image"].flatten().tolist() == [0.0, 40.0]
    assert CTWindowD is CTWindowd
