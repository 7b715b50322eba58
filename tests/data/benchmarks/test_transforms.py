"""Pictures and masks as the networks take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from monai_zsad.data.benchmarks.transforms import (
    LoadMask,
    LoadMaskd,
    LoadPicture,
    LoadPictured,
    RandSaturation,
    RandSaturationd,
    resize_mask,
    resize_picture,
)
from monai_zsad.errors import ConfigurationError, InputError


def _load(path: Path, size: int) -> torch.Tensor:
    found = LoadPictured("image", size)({"image": str(path), "name": "bolt"})
    assert found["name"] == "bolt"
    assert torch.equal(found["image"], LoadPicture(size)(path))
    return (found["image"] * 255).round()


def test_rows_stay_rows_and_channels_come_first(tmp_path: Path) -> None:
    values = np.zeros((6, 8, 3), np.uint8)
    values[:2, :, 0] = 200  # upper third red
    Image.fromarray(values).save(tmp_path / "a.png")
    found = _load(tmp_path / "a.png", 6)
    assert found.shape == (3, 6, 6)
    assert (found[0, 0] > 190).all()
    assert (found[0, 4:] < 10).all()
    assert (found[1:] == 0).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 5), 255, np.uint8)).convert(mode).save(tmp_path / "a.png")
    assert (_load(tmp_path / "a.png", 4) == 255).all()


def test_sixteen_bits_are_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32768], [65535, 257]], np.uint16)).save(tmp_path / "a.png")
    assert _load(tmp_path / "a.png", 2)[0].tolist() == [[0, 128], [255, 1]]


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    with pytest.raises(InputError, match=r"a\.png: cannot be read as an image"):
        LoadPicture(8)(tmp_path / "a.png")


def test_masks(tmp_path: Path) -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[:2, :2] = 1  # any value but zero
    Image.fromarray(mask).save(tmp_path / "m.png")
    assert LoadMask(2)(tmp_path / "m.png").tolist() == [[[1, 0], [0, 0]]]
    found = LoadMaskd(["label", "other"], 2)({"label": "", "other": str(tmp_path / "m.png"), "kept": 3})
    assert found["label"].sum() == 0
    assert found["other"].sum() == 1
    assert found["kept"] == 3
    (tmp_path / "m.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"m\.png"):
        LoadMask(2)(tmp_path / "m.png")


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40), st.integers(2, 30), st.integers(0, 99))
def test_resized_masks_and_pictures_stay_together(rows: int, columns: int, size: int, seed: int) -> None:
    # A mask that is its own picture: the area agrees to half a pixel of the border on all sides.
    rng = np.random.default_rng(seed)
    mask = torch.zeros(1, rows, columns)
    top, left = rng.integers(0, rows), rng.integers(0, columns)
    mask[:, top:, left:] = 1
    picture, small = resize_picture(mask, size), resize_mask(mask, size)
    assert set(small.unique().tolist()) <= {0.0, 1.0}
    assert float((picture.round() - small).abs().mean()) <= 2 / size
    assert small.shape == picture.shape == (1, size, size)


def test_saturation_moves_colours_along_their_grey() -> None:
    rng = np.random.default_rng(1)
    picture = torch.from_numpy(rng.random((3, 5, 5))).float()
    before = picture.clone()
    change = RandSaturation(0.5, prob=1.0).set_random_state(seed=2)
    changed = change(picture)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    torch.testing.assert_close((changed * weights).sum(0), (picture * weights).sum(0))
    assert not torch.allclose(changed, picture)
    assert torch.equal(picture, before)
    share = (changed - changed.mean(0)).norm() / (picture - picture.mean(0)).norm()
    assert 0.5 <= float(share) <= 1.5
    assert torch.equal(RandSaturation(0.5, prob=0.0)(picture), picture)
    assert torch.equal(change(picture[:1]), picture[:1])
    with pytest.raises(ConfigurationError, match="factor"):
        RandSaturation(-1)


def test_saturation_of_several_keys_is_the_same() -> None:
    picture = torch.rand(3, 4, 4)
    change = RandSaturationd(["a", "b"], prob=1.0).set_random_state(seed=3)
    found = change({"a": picture, "b": picture})
    assert torch.equal(found["a"], found["b"])
    again = RandSaturationd(["a", "b"], prob=1.0).set_random_state(seed=3)({"a": picture, "b": picture})
    assert torch.equal(found["a"], again["a"])
