"""Pictures of an evaluation: each curve under its own name, slices the right way round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_zsad.evaluation import plots
from monai_zsad.evaluation.metrics.estimates import Curve, thinned
from monai_zsad.evaluation.predictions import Prediction, save_prediction


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures, beside their PNG files."""
    found: list[Any] = []
    plain = plots.data_uri

    def keep(figure: Any) -> str:
        found.append(figure)
        return plain(figure)

    monkeypatch.setattr(plots, "data_uri", keep)
    return found


@pytest.mark.parametrize(
    ("kind", "across", "up"),
    [
        ("image ROC", "false positive rate", "true positive rate"),
        ("voxel precision-recall", "recall", "precision"),
        ("FROC", "false positives per volume", "sensitivity"),
    ],
)
def test_axes_of_curves(kind: str, across: str, up: str, drawn: list[Any]) -> None:
    steps = np.linspace(0, 4, 5)
    uri = plots.curve_plot(kind, {"a": Curve(steps, steps / 4)})
    assert uri.startswith("data:image/png;base64,")
    (axes,) = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == (across, up)
    # The whole curve of false positives is in the picture.
    assert (axes.get_xlim()[1] >= 4) == (kind == "FROC")
    assert uri == plots.curve_plot(kind, {"a": Curve(steps, steps / 4)})


def test_thinned_curves_keep_ends_and_shape() -> None:
    x = np.linspace(0, 1, 5000)
    curve = thinned(x, x**3)
    assert len(curve.x) <= 400
    assert (curve.x[0], curve.x[-1], curve.y[-1]) == (0, 1, 1)
    np.testing.assert_allclose(np.interp(x, curve.x, curve.y), x**3, atol=1e-3)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_slices_are_upright_however_the_array_lies(
    signs: tuple[int, int, int], tmp_path: Path, drawn: list[Any]
) -> None:
    anomaly = np.zeros((8, 10, 3), np.float32)
    # A spot at the patient's right, at the front.
    place = tuple(slice(-2, None) if sign > 0 else slice(0, 2) for sign in signs[:2])
    anomaly[place[0], place[1], 1] = 1
    picture = (200 * anomaly[..., 1]).astype(np.uint8)
    affine = np.diag([*np.multiply(signs, (1.0, 2.0, 3.0)), 1.0])
    one = Prediction("a", "b", 1, 0.5, anomaly, anomaly > 0, None, None, picture, 1, affine)
    plots.case_picture(save_prediction(one, tmp_path))
    first, second = drawn[0].axes[:2]
    for image in (first.images[0], second.images[1]):
        values = np.asarray(image.get_array())
        assert values.shape == (10, 8)
        # Top left: the patient's right is on the left, the front on top.
        assert values[:2, :2].min() > 0
        assert values[2:].max() == values[:, 2:].max() == 0
    assert first.get_aspect() == 2


def test_a_picture_is_shown_as_it_is(tmp_path: Path, drawn: list[Any]) -> None:
    anomaly = np.random.default_rng(0).random((6, 6)).astype(np.float32)
    picture = np.random.default_rng(1).integers(0, 255, (12, 12, 3)).astype(np.uint8)
    plots.case_picture(save_prediction(Prediction("a", "b", 0, 0.5, anomaly, picture=picture), tmp_path), (0.0, 1.0))
    np.testing.assert_array_equal(np.asarray(drawn[0].axes[0].images[0].get_array()), picture)
    heat = drawn[0].axes[1].images[1]
    np.testing.assert_allclose(np.asarray(heat.get_array()), anomaly)
    assert heat.get_clim() == (0, 1)


def test_histogram_of_equal_scores(drawn: list[Any]) -> None:
    plots.score_histogram(np.full(3, 0.5), np.array([0, 1, 1]), "images")
    legend = [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]
    assert legend == ["normal (1)", "anomalous (2)"]
