"""Figures of photographs: in their colours, upright, and without the patient's sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.data import MetaTensor

from monai_zsad.data import ScanReader
from monai_zsad.transforms import ScanIntensity, UprightOrientation
from monai_zsad.writers import save_preview
from monai_zsad.writers.figures.drawing import draw_slice, grey_range
from monai_zsad.writers.figures.views import make_view, on_grid
from tests.data.odd_inputs.colour_images import saved, skin


def photograph(folder: Path) -> MetaTensor:
    values, meta = ScanReader(colour=True).get_data([saved(folder, skin())])
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(meta["affine"]), meta=dict(meta))


def drawn(scan: MetaTensor) -> tuple[np.ndarray, list[str]]:
    view = make_view(scan, scan[:1], None, None)
    axes = Figure().add_subplot()
    draw_slice(axes, view, 0, grey_range(view.scan)[0])
    return np.asarray(axes.images[0].get_array()), [text.get_text() for text in axes.texts]


def test_a_photograph_is_drawn_as_it_was_taken(tmp_path):
    picture, letters = drawn(photograph(tmp_path))
    np.testing.assert_allclose(picture, skin() / 255, atol=1e-6)
    assert letters == []


def test_so_is_what_the_network_saw(tmp_path):
    seen = ScanIntensity()(UprightOrientation()(photograph(tmp_path)))
    picture, _ = drawn(seen)
    np.testing.assert_allclose(picture, skin() / 255, atol=1e-6)


def test_a_photograph_on_another_grid_keeps_its_colours(tmp_path):
    scan = photograph(tmp_path)
    part = MetaTensor(torch.zeros(1, 20, 30, 1), affine=scan.affine @ torch.diag(torch.tensor([2.0, 1, 1, 1])).double())
    moved = on_grid(scan, part)
    assert moved.shape == (3, 20, 30, 1)
    picture, letters = drawn(moved)
    np.testing.assert_allclose(picture, skin()[:30, :40:2] / 255, atol=1e-6)
    assert letters == []


def test_grey_is_drawn_as_before():
    scan = MetaTensor(torch.rand(1, 8, 9, 1), affine=torch.diag(torch.tensor([-1.0, -1, 1, 1])))
    picture, letters = drawn(scan)
    np.testing.assert_array_equal(picture, scan[0, :, :, 0].numpy().T)
    assert letters == ["R", "L", "A", "P"]


def test_the_preview_of_a_photograph_has_no_grey_window(tmp_path, monkeypatch):
    written: list[str] = []
    monkeypatch.setattr(Figure, "text", lambda self, x, y, text, **options: written.append(text))
    scan = photograph(tmp_path)
    save_preview(scan, scan[:1] / 255, tmp_path / "a.png")
    assert not [text for text in written if "white" in text]
    save_preview(scan[:1].clone().as_tensor(), scan[:1] / 255, tmp_path / "b.png", affine=scan.affine.numpy())
    assert [text for text in written if "white" in text]
