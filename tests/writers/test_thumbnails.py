"""Thumbnails of a candidate: where its peak lies in them, upright, in every plane that a scan has."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from monai.data import MetaTensor
from PIL import Image

from monai_zsad.writers.figures.thumbnails import thumbnails
from monai_zsad.writers.figures.views import make_view

SIZE = 100


def opened(source: str) -> np.ndarray:
    """Red, green and blue in [0, 1]."""
    kind, _, content = source.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) / 255.0


def drawn(scan: np.ndarray, affine: np.ndarray, peak: Any, field: float, labels: Any = None, **options: Any) -> Any:
    view = make_view(scan, np.zeros(scan.shape), affine, None, labels)
    found = {"id": 1, "peak_ras_mm": peak}
    images = thumbnails(view, found, field, (0.0, 1.0), (0.5, 1.0), SIZE, **options)
    return {plane: opened(source) for plane, source in images}


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 2, 1]), np.diag([-1.0, -1, 2, 1])])
def test_the_peak_is_in_the_middle_and_the_patients_right_on_the_left(affine: np.ndarray) -> None:
    scan = np.zeros((60, 60, 30))
    peak = np.array([30, 28, 14])
    scan[tuple(peak)] = 1
    sides = {"R": (8, 0, 0), "A": (0, 8, 0), "S": (0, 0, 4)}
    for step in sides.values():
        scan[tuple(peak + np.array(step) * np.sign(np.diag(affine)[:3]).astype(int))] = 0.7
    images = drawn(scan, affine, (affine @ [*peak, 1])[:3], 40.0)
    assert list(images) == ["axial", "coronal", "sagittal"]
    beside = {"axial": ("R", "A"), "coronal": ("R", "S"), "sagittal": ("A", "S")}
    for plane, image in images.items():
        grey = image.mean(axis=-1)
        # 40 mm on 100 pixels: what is 8 mm away lies 20 pixels away.
        row, column = np.unravel_index(grey.argmax(), grey.shape)
        assert abs(row - 50) <= 3
        assert abs(column - 50) <= 3
        left, top = beside[plane]
        assert left in "RA"
        assert top in "AS"
        assert grey[46:54, 26:34].max() > 0.3, f"{plane}: {left} is on the left"
        assert grey[26:34, 46:54].max() > 0.3, f"{plane}: {top} is on top"
        assert grey[46:54, 66:74].max() < 0.1
        assert grey[66:74, 46:54].max() < 0.1


def test_the_outline_lies_around_the_candidate_and_no_other() -> None:
    labels = np.zeros((40, 40, 40), dtype=np.int16)
    labels[10:20, 10:20, 10:20] = 1
    labels[25:35, 25:35, 10:20] = 2
    image = drawn(np.zeros(labels.shape), np.eye(4), (15, 15, 15), 100.0, labels)["axial"]
    white = np.argwhere(image.min(axis=-1) > 0.6)
    # The field is the scan: 2.5 pixels for a voxel, which runs from the right and from the front.
    np.testing.assert_allclose(white.min(axis=0), [50, 50], atol=2)
    np.testing.assert_allclose(white.max(axis=0), [75, 75], atol=2)


def test_a_peak_at_the_edge_and_a_single_slice() -> None:
    scan = np.ones((50, 30, 1))
    images = drawn(scan, np.eye(4), (49, 0, 0), 20.0)
    assert list(images) == ["axial"], "other planes would show a line"
    assert images["axial"].min() > 0.9, "the field stays in the scan"
    wide = drawn(scan, np.eye(4), (49, 0, 0), 500.0)["axial"].mean(axis=-1)
    assert wide[50].min() > 0.9, "the whole scan"
    assert wide[5].max() < 0.1, "and nothing above it, as it is not square"


def test_a_photograph_keeps_its_colours() -> None:
    colours = np.zeros((3, 20, 20, 1), dtype=np.float32)
    colours[0] = 200.0
    photo = MetaTensor(colours, affine=np.eye(4), meta={"colour": "RGB"})
    view = make_view(photo, np.zeros((20, 20, 1)), None, None)
    ((_, source),) = thumbnails(view, {"id": 1, "peak_ras_mm": (5, 5, 0)}, 10.0, (0.0, 1.0), (0.5, 1.0), SIZE)
    np.testing.assert_allclose(opened(source).mean(axis=(0, 1)), [200 / 255, 0, 0], atol=0.03)
