from __future__ import annotations

import io
import os
import tracemalloc
from typing import Any

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
from monai_zsad.writers import SavePreviewd, most_suspicious, save_preview
from monai_zsad.writers.figures.drawing import draw_contours, draw_slice, make_view, slice_label, upright

RAS = np.array([[1.0, 0, 0, -10], [0, 1, 0, -12], [0, 0, 4, -16], [0, 0, 0, 1]])


def marked(index, shape=(20, 24, 9)):
    volume = np.zeros(shape, dtype=np.float32)
    volume[index] = 1.0
    return volume


def brightest(picture):
    row, column = np.unravel_index(int(np.argmax(picture)), picture.shape)
    rows, columns = picture.shape
    return ("top" if row < rows / 2 else "bottom"), ("left" if column < columns / 2 else "right")


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "IPL", "PRS"])
def test_slices_are_upright_whatever_the_grid(codes):
    """A voxel that is right, anterior and superior of the centre, in every plane and stored orientation."""
    source = MetaTensor(torch.as_tensor(marked((17, 20, 7)))[None], affine=torch.as_tensor(RAS))
    scan = Orientation(axcodes=codes, labels=None)(source)
    for plane, axis, index, expected in (
        ("axial", 2, 7, ("top", "left")),
        ("coronal", 1, 20, ("top", "left")),
        ("sagittal", 0, 17, ("top", "left")),
    ):
        view = make_view(scan, scan, None, plane)
        assert brightest(upright(view.scan, axis, index)) == expected
        np.testing.assert_allclose(view.affine, RAS)


@settings(max_examples=20, deadline=None)
@given(codes=st.sampled_from(["RAS", "LPS", "SAR", "IRP"]), k=st.integers(0, 8))
def test_slices_are_numbered_as_in_the_file(codes, k):
    source = MetaTensor(torch.zeros(1, 20, 24, 9), affine=torch.as_tensor(RAS), meta={"original_affine": RAS})
    scan = Orientation(axcodes=codes, labels=None)(source)
    view = make_view(scan, torch.zeros(scan.shape), None, "axial")
    millimetres = 4 * k - 16
    assert slice_label(view, k) == f"slice {k}   {'S' if millimetres >= 0 else 'I'} {abs(millimetres):.1f} mm"


def test_default_plane_is_that_of_the_third_axis():
    scan = MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.as_tensor(RAS))
    assert make_view(scan, scan, None, None).axis == 2
    sagittal = Orientation(axcodes="ASR", labels=None)(scan)
    assert make_view(sagittal, sagittal, None, None).axis == 0


@settings(max_examples=30, deadline=None)
@given(slices=st.integers(1, 12), count=st.integers(1, 5), seed=st.integers(0, 99), spacing=st.floats(0.5, 12))
def test_most_suspicious(slices, count, seed, spacing):
    heat = np.random.default_rng(seed).random((5, slices, 6))
    chosen = most_suspicious(heat, 1, count, spacing)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, slices)
    assert int(np.argmax(heat.max(axis=(0, 2)))) in chosen


def test_picture_shows_map_on_the_lower_row_only(tmp_path):
    rng = np.random.default_rng(0)
    scan = rng.random((20, 24, 9)).astype(np.float32)
    heat = marked((slice(14, 18), slice(10, 14), 4))
    path = save_preview(scan, heat, tmp_path / "a.png", affine=RAS, slices=1)
    picture = imread(path)[..., :3]
    colour = (picture.max(axis=-1) - picture.min(axis=-1)) > 0.5
    # The colour bar stands at the right of the lower row.
    columns = slice(0, int(0.7 * picture.shape[1]))
    half = picture.shape[0] // 2
    assert colour[half:, columns].sum() > 100
    assert colour[60:half, columns].sum() < 0.02 * colour[half:, columns].sum()
    assert os.listdir(tmp_path) == ["a.png"]


def test_red_banner_for_seeded_weights(tmp_path):
    volume = MetaTensor(torch.rand(1, 12, 12, 5), affine=torch.as_tensor(RAS))
    red = {}
    for seeded in (False, True):
        data: dict[Any, Any] = {"pred": volume, "image": volume, "case": f"c{seeded}", "volume_score": 0.5}
        SavePreviewd(keys="pred", output_dir=tmp_path, meta={"seeded": seeded})(data)
        picture = imread(tmp_path / f"c{seeded}" / "preview.png")[..., :3]
        top = picture[: picture.shape[0] // 6]
        red[seeded] = int(((top[..., 0] > 0.8) & (top[..., 1] < 0.3)).sum())
    assert red[False] == 0
    assert red[True] > 500


def test_constant_map_flat_scan_and_odd_titles(tmp_path):
    flat = np.zeros((6, 6, 2), dtype=np.float32)
    path = save_preview(flat, flat, tmp_path / "a.png", affine=RAS, title="a_$b$_\\x", slices=5)
    assert path.stat().st_size > 1000


def test_no_global_figures(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    save_preview(np.ones((5, 5, 2)), np.ones((5, 5, 2)), tmp_path / "a.png", affine=RAS)
    assert plt.get_fignums() == before


def test_grids_have_to_agree(tmp_path):
    scan = MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.as_tensor(RAS))
    with pytest.raises(ConfigurationError, match="not two volumes on one grid"):
        save_preview(scan, np.zeros((4, 5, 7)), tmp_path / "a.png")
    moved = MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.eye(4))
    with pytest.raises(ConfigurationError, match="different affines"):
        save_preview(scan, moved, tmp_path / "a.png")
    with pytest.raises(ConfigurationError, match="plane is 'oblique'"):
        save_preview(scan, scan, tmp_path / "a.png", plane="oblique")
    with pytest.raises(ConfigurationError, match="affine is missing"):
        save_preview(np.zeros((4, 5, 6)), np.zeros((4, 5, 6)), tmp_path / "a.png")
    with pytest.raises(OutputError, match="NaN"):
        save_preview(scan, np.full((4, 5, 6), np.nan), tmp_path / "a.png")


def test_failed_drawing_leaves_nothing(tmp_path, monkeypatch):
    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OutputError, match="no space"):
        save_preview(np.ones((5, 5, 2)), np.ones((5, 5, 2)), tmp_path / "a.png", affine=RAS)
    assert not os.listdir(tmp_path)


def test_a_single_slice_is_shown_whole():
    """One coronal slice, asked for in axial ones, which would be lines."""
    scan = MetaTensor(torch.rand(1, 30, 1, 20), affine=torch.eye(4))
    views = [make_view(scan, torch.rand(1, 30, 1, 20), None, plane) for plane in ("axial", "coronal", "sagittal", None)]
    assert [view.axis for view in views] == [1] * 4


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_slice_is_no_copy_of_the_volume(order):
    volume = np.zeros((4, 5, 6), order=order)
    for axis in range(3):
        assert np.shares_memory(upright(volume, axis, 1), volume)


def outlined(labels):
    """A figure with the outlines of a slice."""
    figure = Figure(figsize=(4, 4))
    axes = figure.add_subplot()
    volume = np.zeros(labels.shape, dtype=np.float32)
    view = make_view(volume, volume, np.eye(4), "axial", labels)
    draw_slice(axes, view, 0, (0.0, 1.0))
    draw_contours(axes, view, 0, {2: "red"}, numbers=False)
    return figure, upright(np.asarray(view.labels), 2, 0)


def pixels(figure):
    figure.savefig(stream := io.BytesIO(), format="rgba")
    return np.frombuffer(stream.getvalue(), dtype=np.uint8)


def test_outlines_are_those_of_the_whole_slice():
    """Labels at the edges, next to one another, with holes and of several parts; one number is missing."""
    labels = np.zeros((40, 50, 1), dtype=np.uint8)
    labels[0:9, 0:12] = 1
    labels[9:20, 5:17] = 2
    labels[12:15, 8:11] = 0
    labels[30:40, 45:50] = labels[25:28, 3:5] = 4
    figure, marked_slice = outlined(labels)
    expected, _ = outlined(np.zeros_like(labels))
    axes = expected.axes[0]
    limits = axes.get_xlim(), axes.get_ylim()
    for label in (1, 2, 4):
        own = np.pad(marked_slice == label, 1).astype(np.float32)
        rows, columns = (np.arange(length) - 1 for length in own.shape)
        colour = "red" if label == 2 else "white"
        axes.contour(columns, rows, own, levels=[0.5], colors=[colour], linewidths=1.3)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    drawn = pixels(figure)
    np.testing.assert_array_equal(drawn, pixels(expected))
    assert (drawn != pixels(outlined(np.zeros_like(labels))[0])).any()


def test_outlines_take_the_memory_of_their_candidates_alone():
    """A figure keeps what its outlines were drawn from: of a report with many candidates, hundreds of megabytes."""
    labels = np.zeros((500, 500, 1), dtype=np.uint8)
    labels[20:480:20, 20] = np.arange(1, 24)[:, None]
    outlined(labels[:50, :50])
    tracemalloc.start()
    try:
        figure, _ = outlined(labels)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(figure.axes[0].collections) == 23
    assert kept < 20e6
