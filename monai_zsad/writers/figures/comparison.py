"""One figure of a slice with the maps of several methods side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from monai.config import NdarrayOrTensor

from monai_zsad.errors import ConfigurationError
from monai_zsad.writers.figures.drawing import (
    BACKGROUND,
    INK,
    SAVED_AS,
    colour_bar,
    draw_slice,
    grey_range,
    headline,
    slice_label,
)
from monai_zsad.writers.figures.preview import most_suspicious
from monai_zsad.writers.figures.views import View, make_view
from monai_zsad.writers.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["comparison_figure", "save_comparison_figure", "suspicious_slices"]

_PANEL = 2.8


def comparison_figure(
    scan: NdarrayOrTensor,
    maps: Mapping[str, NdarrayOrTensor],
    index: int,
    *,
    affine: np.ndarray | None = None,
    scores: Mapping[str, str] | None = None,
    title: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    banner: str = "",
) -> Figure:
    """Draw a slice of a scan, and beside it the same slice under the map of each method, in one colour scale.

    The slice is shown as a radiologist sees it, as by :func:`~monai_zsad.writers.save_preview`, which shows several
    slices under one map.

    Args:
        scan: (X, Y, Z) or (C, X, Y, Z); the first channel is shown.
        maps: map of each method, on the same grid; the first channel is shown.
        index: index of the slice along the grid's third axis.
        affine: (4, 4), index to mm in RAS; by default that of ``scan``, if that is a ``MetaTensor``.
        scores: short text under the name of each method.
        title: name of the case.
        limits: map values where the colours begin and end, the same for all methods.
        banner: text in a red box above the slices.

    Returns:
        A figure that is not shown in a window: notebooks show it, and ``savefig`` writes it.

    Raises:
        ConfigurationError: if there is no map, the grids differ, no affine is known, the index is outside or the
            limits are not a range.
        OutputError: if a map holds NaN or infinity.

    Example:
        >>> volume = np.random.default_rng(0).random((12, 12, 5))
        >>> figure = comparison_figure(volume, {"crane": volume, "anomalyclip": volume}, 2, affine=np.eye(4))
        >>> [axes.get_title() for axes in figure.axes][1:3]
        ['crane', 'anomalyclip']
    """
    from matplotlib.figure import Figure

    if not maps:
        raise ConfigurationError("maps is empty: give at least one method's map")
    if not limits[0] < limits[1]:
        raise ConfigurationError(f"limits={limits!r}: give two map values, the smaller first, such as (0.0, 1.0)")
    views = {name: make_view(scan, heat, affine, None) for name, heat in maps.items()}
    view = next(iter(views.values()))
    if not 0 <= index < view.scan.shape[view.axis]:
        raise ConfigurationError(f"index={index}: the scan has slices 0 to {view.scan.shape[view.axis] - 1}")
    shown = _shown_index(view, scan, affine, index)
    grey, _ = grey_range(view.scan)
    across, down = (
        length * n for i, (length, n) in enumerate(zip(view.spacing, view.scan.shape, strict=True)) if i != view.axis
    )
    height = _PANEL * float(np.clip(down / across, 0.4, 1.8))
    top = 0.82 + (0.3 if banner else 0.0)
    size = (_PANEL * (1 + len(maps)) + 1.05, height + top + 0.1)
    figure = Figure(figsize=size, facecolor=BACKGROUND)
    grid = figure.add_gridspec(
        1,
        1 + len(maps),
        left=0.1 / size[0],
        right=1 - 0.95 / size[0],
        top=1 - top / size[1],
        bottom=0.08 / size[1],
        wspace=0.03,
    )
    panels = [(slice_label(view, shown), "scan", view)]
    panels += [((scores or {}).get(name, ""), name, own) for name, own in views.items()]
    for column, (words, name, own) in enumerate(panels):
        axes = figure.add_subplot(grid[0, column])
        draw_slice(axes, own, shown, grey, limits if column else None)
        heading = "\n".join(line for line in (name, words) if line)
        axes.set_title(heading, color=INK, fontsize=10, pad=4, parse_math=False)
    colour_bar(figure, grid, limits, size[0])
    headline(figure, title, None, banner, size[1])
    return figure


def _shown_index(view: View, scan: NdarrayOrTensor, affine: np.ndarray | None, index: int) -> int:
    """The index of the slice in the view, which may count from the other end."""
    grid = np.asarray(scan.affine.cpu().numpy() if affine is None else affine)
    centre = np.linalg.inv(grid) @ view.affine @ [*((n - 1) / 2 for n in view.scan.shape), 1.0]
    centre[2] = index
    return int(np.rint((np.linalg.inv(view.affine) @ grid @ centre)[view.axis]))


def save_comparison_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure of :func:`comparison_figure` as a PNG; a failed write leaves no incomplete file.

    Args:
        figure: matplotlib figure.
        path: path of the PNG file.

    Returns:
        The path.

    Raises:
        OutputError: if the file cannot be written.
    """
    target = Path(path)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, **SAVED_AS)
    return target


def suspicious_slices(maps: Mapping[str, np.ndarray], count: int, spacing_mm: float = 1.0) -> list[int]:
    """Slices that are suspicious to all methods together, by :func:`~monai_zsad.writers.most_suspicious`.

    Each map is standardised first (minus its mean, divided by its standard deviation). Otherwise the method with the
    largest values would decide alone.

    Args:
        maps: map (X, Y, Z) of each method, on one grid.
        count: maximum number of slices.
        spacing_mm: distance between slices, along the third axis.

    Returns:
        Indices along the third axis, in order.

    Raises:
        ConfigurationError: if there are no maps.

    Example:
        >>> faint, strong = np.zeros((4, 4, 9)), np.zeros((4, 4, 9))
        >>> faint[1, 1, 2], strong[1, 1, 7] = 0.01, 0.9
        >>> suspicious_slices({"a": faint, "b": strong}, 2)
        [2, 7]
    """
    if not maps:
        raise ConfigurationError("maps is empty: give at least one method's map")
    total = sum((heat - heat.mean()) / max(float(heat.std()), 1e-6) for heat in maps.values())
    return most_suspicious(np.asarray(total), 2, count, spacing_mm)
