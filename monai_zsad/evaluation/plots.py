"""Figures of an evaluation: curves, histograms of scores, best and worst cases."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_zsad.evaluation.metrics.estimates import MEAN, POOLED, CaseSummary, Curve
from monai_zsad.evaluation.predictions import Prediction, load_prediction
from monai_zsad.writers.figures.views import upright

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["case_picture", "chosen_cases", "curve_plot", "data_uri", "score_histogram"]

_AXES = {
    "ROC": ("false positive rate", "true positive rate"),
    "precision-recall": ("recall", "precision"),
    "FROC": ("false positives per volume", "sensitivity"),
}
_LEGEND = 12
_NORMAL, _ANOMALOUS = "#1a5fb4", "#b3261e"


def data_uri(figure: Figure) -> str:
    """The figure as a PNG in a data URI. The same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def curve_plot(kind: str, curves: Mapping[str, Curve]) -> str:
    """Draw the curves of one kind, for example ``"image ROC"``, for all scopes. Returns a data URI."""
    figure, axes = _figure(4.6, 4.0)
    form = kind.rpartition(" ")[2]
    for scope, curve in curves.items():
        several = scope in (MEAN, POOLED)
        axes.plot(curve.x, curve.y, label=scope[-28:], linewidth=2.2 if several else 1.2, zorder=3 if several else 2)
    if form == "ROC":
        axes.plot([0, 1], [0, 1], color="#9aa0a6", linewidth=0.8, linestyle="--")
    if form == "FROC":
        axes.set_xscale("symlog", linthresh=0.25)
        axes.set_xlim(0, None)
    else:
        axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel(_AXES[form][0])
    axes.set_ylabel(_AXES[form][1])
    if len(curves) <= _LEGEND:
        axes.legend(fontsize=7, frameon=False)
    return data_uri(figure)


def score_histogram(scores: np.ndarray, labels: np.ndarray, what: str) -> str:
    """Draw histograms of the scores of normal and of anomalous cases.

    Args:
        scores: (n,), scores of the cases.
        labels: (n,), 0 normal or 1 anomalous.
        what: label of the axis of counts, for example ``"images"``.

    Returns:
        A data URI.
    """
    figure, axes = _figure(4.6, 4.0)
    low, high = float(scores.min()), float(scores.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, 31)
    for anomalous, colour, name in ((False, _NORMAL, "normal"), (True, _ANOMALOUS, "anomalous")):
        own = scores[labels.astype(bool) == anomalous]
        if own.size:
            axes.hist(own, edges, color=colour, alpha=0.6, label=f"{name} ({own.size})")
    axes.set_xlabel("score")
    axes.set_ylabel(what)
    axes.legend(fontsize=8, frameon=False)
    return data_uri(figure)


def chosen_cases(cases: Sequence[CaseSummary], count: int = 4) -> dict[str, list[CaseSummary]]:
    """Choose cases to show: anomalous cases with the best and the worst results, normal cases with the highest scores.

    Anomalous cases are ranked by the average precision of their pixels. Without masks they are ranked by their scores.

    >>> cases = [CaseSummary("a", "x", 1, 0.9), CaseSummary("b", "x", 1, 0.1), CaseSummary("c", "x", 0, 0.5)]
    >>> found = chosen_cases(cases)
    >>> {title: [case.case for case in chosen] for title, chosen in found.items()}
    {'anomalous, best': ['a'], 'anomalous, worst': ['b'], 'normal, highest scores': ['c']}
    """
    anomalous = [case for case in cases if case.label]
    by_pixels = [case for case in anomalous if not np.isnan(case.quality)]
    ranked = sorted(by_pixels, key=lambda case: -case.quality) or sorted(anomalous, key=lambda case: -case.score)
    half = min(count, (len(ranked) + 1) // 2)
    normal = sorted((case for case in cases if not case.label), key=lambda case: -case.score)[:count]
    worst = ranked[max(half, len(ranked) - count) :][::-1]
    found = {"anomalous, best": ranked[:half], "anomalous, worst": worst, "normal, highest scores": normal}
    return {title: chosen for title, chosen in found.items() if chosen}


def case_picture(path: Path, limits: tuple[float, float] | None = None) -> str:
    """Draw a case without and with its map, and outline the truth. Returns a data URI.

    A volume is shown by one slice in the radiological orientation: the patient's right is on the left.

    Args:
        path: file of the prediction.
        limits: map values where the colours begin and end; by default the least and the largest value in this image.
    """
    one = load_prediction(path)
    picture, heat, truth, aspect = _shown(one)
    figure, axes = _figure(6.0, 3.1, 2)
    low, high = limits or (float(heat.min()), float(heat.max()))
    extent = (-0.5, heat.shape[1] - 0.5, heat.shape[0] - 0.5, -0.5)
    for axis in axes:
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=extent, aspect=aspect)
        axis.set_axis_off()
        if truth is not None and truth.any():
            margin = np.pad(truth, 1).astype(np.float32)
            rows, columns = (np.arange(length) - 1 for length in margin.shape)
            axis.contour(columns, rows, margin, levels=[0.5], colors=["#57e389"], linewidths=0.9)
        axis.set_xlim(extent[0], extent[1])
        axis.set_ylim(extent[2], extent[3])
    shown = axes[1].imshow(
        heat, cmap="inferno", vmin=low, vmax=max(high, low + 1e-6), alpha=0.6, extent=extent, aspect=aspect
    )
    bar = figure.colorbar(shown, cax=figure.add_axes((0.92, 0.1, 0.015, 0.8)))
    bar.ax.tick_params(labelsize=7)
    return data_uri(figure)


def _shown(one: Prediction) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, float]:
    """Image, map and truth (rows, columns), and the height of a pixel over its width."""
    empty = np.zeros(one.anomaly.shape[:2], np.uint8)
    picture = empty if one.picture is None else one.picture
    if one.anomaly.ndim == 2:
        return picture, one.anomaly, one.truth, 1.0
    from nibabel import orientations

    index = one.picture_slice
    affine = np.eye(4) if one.affine is None else one.affine
    turn = orientations.io_orientation(affine)
    axis = int(turn[2, 0])
    planes = [picture, one.anomaly[..., index], None if one.truth is None else one.truth[..., index]]
    shown = [
        None if plane is None else upright(orientations.apply_orientation(plane[..., None], turn), axis, 0)
        for plane in planes
    ]
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    across, down = (length for number, length in sorted(zip(turn[:, 0], lengths, strict=True)) if number != axis)
    return shown[0], shown[1], shown[2], float(down / across)  # type: ignore[return-value]  # only the truth may be None


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns)
    if columns > 1:
        figure.subplots_adjust(0.01, 0.02, 0.91, 0.98, wspace=0.03)
    else:
        figure.subplots_adjust(0.14, 0.12, 0.97, 0.97)
        axes.grid(visible=True, color="#e3e6ea", linewidth=0.6)
    return figure, axes
