"""Figures for the report: slices through the peaks of the candidates, with outlines."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_zsad.writers.figures.drawing import (
    BACKGROUND,
    SAVED_AS,
    View,
    colour_bar,
    draw_contours,
    draw_slice,
    grey_range,
    map_range,
    slice_label,
    suspicion_colours,
)
from monai_zsad.writers.figures.preview import most_suspicious

__all__: list[str] = []

_PANEL, _BAR, _MARGIN = 4.1, 0.95, 0.08


@dataclass(frozen=True)
class KeySlices:
    """Figures of key slices, with the ranges of grey values and colours.

    Attributes:
        pictures: caption (number and position of the slice) and PNG of each slice, most suspicious first.
        candidates: ids of the candidates whose peaks are in each slice.
        grey: values of the shown scan that are black and white; None for a picture in colour.
        limits: map values where the colours begin and end.
    """

    pictures: tuple[tuple[str, bytes], ...]
    candidates: tuple[tuple[int, ...], ...]
    grey: tuple[float, float] | None
    limits: tuple[float, float]


def key_slices(
    view: View, candidates: Sequence[Mapping[str, Any]], count: int, limits: tuple[float, float] | None
) -> KeySlices:
    """Draw the slices through the peaks of the first candidates; without a candidate, the most suspicious slices.

    Args:
        view: scan, map and labels, from :func:`make_view`.
        candidates: candidates of the findings, most suspicious first.
        count: maximum number of slices; candidates in the same slice share a figure.
        limits: map values where the colours begin and end; None: the same as in the preview.
    """
    grey, body = grey_range(view.scan)
    heat_range = limits or map_range(view.heat, body)
    chosen: dict[int, list[int]] = {}
    for found in candidates:
        index = view.index_of(found["peak_ras_mm"])
        if index in chosen or len(chosen) < count:
            chosen.setdefault(index, []).append(int(found["id"]))
    if not candidates:
        chosen = {index: [] for index in most_suspicious(view.heat, view.axis, min(count, 3), view.spacing[view.axis])}
    ids = [int(found["id"]) for found in candidates]
    peaks = [float(found["peak_score"]) for found in candidates]
    colours = dict(zip(ids, suspicion_colours(peaks), strict=True))
    return KeySlices(
        pictures=tuple(
            (slice_label(view, index).replace("   ", ", "), _picture(view, index, grey, heat_range, colours))
            for index in chosen
        ),
        candidates=tuple(tuple(own) for own in chosen.values()),
        grey=grey if view.colour is None else None,
        limits=heat_range,
    )


def _picture(
    view: View, index: int, grey: tuple[float, float], limits: tuple[float, float], colours: Mapping[int, Any]
) -> bytes:
    """PNG of a slice: the scan with outlines in the candidates' colours, and beside it the map with white ones."""
    from matplotlib.figure import Figure

    extents = [length * n for length, n in zip(view.spacing, view.scan.shape, strict=True)]
    across, down = (extent for axis, extent in enumerate(extents) if axis != view.axis)
    height = _PANEL * float(np.clip(down / across, 0.3, 1.3))
    size = (2 * _PANEL + _BAR + 3 * _MARGIN, height + 2 * _MARGIN)
    figure = Figure(figsize=size, facecolor=BACKGROUND)
    grid = figure.add_gridspec(
        1,
        2,
        left=_MARGIN / size[0],
        right=1 - (_BAR + _MARGIN) / size[0],
        top=1 - _MARGIN / size[1],
        bottom=_MARGIN / size[1],
        wspace=2 * _MARGIN / (2 * _PANEL),
    )
    for column in (0, 1):
        axes = figure.add_subplot(grid[0, column])
        draw_slice(axes, view, index, grey, limits if column else None)
        draw_contours(axes, view, index, {} if column else colours)
    colour_bar(figure, grid, limits, size[0])
    stream = io.BytesIO()
    figure.savefig(stream, **SAVED_AS)
    return stream.getvalue()
