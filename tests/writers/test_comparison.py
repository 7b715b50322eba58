from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread
from monai.data import MetaTensor
from monai.transforms import Orientation

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers import comparison_figure, save_comparison_figure, suspicious_slices

RAS = np.array([[1.0, 0, 0, -10], [0, 1, 0, -12], [0, 0, 4, -16], [0, 0, 0, 1]])


def volume(codes: str = "RAS") -> MetaTensor:
    """One bright voxel: right, anterior and superior of the centre, in slice 7 of 9."""
    values = torch.zeros(1, 20, 24, 9)
    values[0, 17, 20, 7] = 1.0
    source = MetaTensor(values, affine=torch.as_tensor(RAS), meta={"original_affine": RAS})
    return Orientation(axcodes=codes, labels=None)(source)


def pictures_of(figure: Figure) -> list[np.ndarray]:
    """What the panels show: the scan, then each map (drawn over the scan)."""
    return [np.asarray(axes.images[-1].get_array()) for axes in figure.axes if len(axes.images) in (1, 2)][:3]


@settings(max_examples=15, deadline=None)
@given(codes=st.sampled_from(["RAS", "LAI", "PLI", "ALS", "LPS"]))
def test_the_same_slice_of_all_maps_upright_whatever_the_grid(codes):
    scan = volume(codes)
    index = int(scan[0].amax((0, 1)).argmax())
    figure = comparison_figure(scan, {"a": scan, "b": scan * 0.5}, index)
    for picture, largest in zip(pictures_of(figure), (1.0, 1.0, 0.5), strict=True):
        assert picture.max() == pytest.approx(largest)
        row, column = np.unravel_index(int(np.argmax(picture)), picture.shape)
        assert (row, column) == (23 - 20, 19 - 17), "anterior up, the patient's right on the left"
    assert figure.axes[0].get_title() == "scan\nslice 7   S 12.0 mm"


def test_one_colour_scale_scores_and_sides():
    scan = volume()
    figure = comparison_figure(
        scan, {"a$b": scan, "c": scan}, 7, scores={"a$b": "slice score 0.500"}, limits=(0.2, 0.8), title="anna"
    )
    assert [axes.get_title() for axes in figure.axes[1:3]] == ["a$b\nslice score 0.500", "c"]
    for axes in figure.axes[1:3]:
        assert axes.images[-1].get_clim() == (0.2, 0.8)
        assert [text.get_text() for text in axes.texts] == ["R", "L", "A", "P"]
    assert figure.axes[3].get_ylim() == (0.2, 0.8)
    assert figure.texts[0].get_text() == "anna"


def test_file_is_whole_or_not_there(tmp_path, monkeypatch):
    figure = comparison_figure(volume(), {"a": volume()}, 7, banner="NOT A RESULT")
    picture = imread(save_comparison_figure(figure, tmp_path / "a.png"))[..., :3]
    assert ((picture[..., 0] > 0.8) & (picture[..., 1] < 0.3)).sum() > 500, "the red banner"
    assert os.listdir(tmp_path) == ["a.png"]

    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OutputError, match="no space"):
        save_comparison_figure(figure, tmp_path / "b.png")
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("maps", "options", "error", "message"),
    [
        ({}, {}, ConfigurationError, "maps is empty"),
        ({"a": np.zeros((20, 24, 8))}, {}, ConfigurationError, "not two volumes on one grid"),
        ({"a": np.zeros((20, 24, 9))}, {"index": 9}, ConfigurationError, "slices 0 to 8"),
        ({"a": np.zeros((20, 24, 9))}, {"limits": (1.0, 1.0)}, ConfigurationError, "the smaller first"),
        ({"a": np.full((20, 24, 9), np.nan)}, {}, OutputError, "NaN"),
    ],
)
def test_refused(maps, options, error, message):
    with pytest.raises(error, match=message):
        comparison_figure(volume(), maps, **{"index": 0, **options})


@given(scale=st.floats(0.01, 100), offset=st.floats(-5, 5), count=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_no_method_decides_by_the_size_of_its_values(scale, offset, count):
    rng = np.random.default_rng(0)
    maps = {"a": rng.random((6, 6, 12)), "b": rng.random((6, 6, 12))}
    chosen = suspicious_slices(maps, count)
    assert chosen == suspicious_slices({"a": maps["a"], "b": scale * maps["b"] + offset}, count)
    assert len(chosen) == count
