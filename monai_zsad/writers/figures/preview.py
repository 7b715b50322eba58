"""A figure of the most suspicious slices, for a first look without a viewer."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor

from monai_zsad.result_files import CASE_FILES
from monai_zsad.writers.base import CaseLayout, CaseWriter
from monai_zsad.writers.facts import Meta, banner
from monai_zsad.writers.figures.drawing import (
    BACKGROUND,
    INK,
    SAVED_AS,
    THUMBNAIL_KEY,
    colour_bar,
    draw_contours,
    draw_slice,
    grey_label,
    grey_range,
    headline,
    map_range,
    slice_label,
)
from monai_zsad.writers.figures.views import make_view, on_grid, upright
from monai_zsad.writers.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SavePreviewD", "SavePreviewDict", "SavePreviewd", "most_suspicious", "save_preview"]

_STRONGEST = 0.01


def save_preview(
    scan: NdarrayOrTensor,
    anomaly_map: NdarrayOrTensor,
    path: str | os.PathLike[str],
    *,
    affine: np.ndarray | None = None,
    plane: str | None = None,
    slices: int = 3,
    title: str = "",
    volume_score: float | None = None,
    limits: tuple[float, float] | None = None,
    banner: str = "",
    labels: NdarrayOrTensor | None = None,
) -> Path:
    """Write a PNG of the most suspicious slices: the scan in the upper row, and with the anomaly map in the lower row.

    Slices are shown as a radiologist sees them: anterior up and the patient's right on the left (axial), superior up
    (coronal, sagittal). The grid is only flipped and transposed, so an oblique scan is shown in its own planes.

    Args:
        scan: (X, Y, Z) or (C, X, Y, Z); the first channel is shown. Grey values go from the 1st to the 99.5th
            percentile inside the body.
        anomaly_map: (X, Y, Z) or (C, X, Y, Z), the map in its first channel, on the same grid.
        path: path of the PNG; its folder exists.
        affine: (4, 4), index to mm in RAS; by default that of ``scan``, if that is a ``MetaTensor``.
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``; None: the plane nearest to the first two axes of the grid;
            after the preprocessing of this package, that is the plane that the network saw.
        slices: maximum number of slices; see :func:`most_suspicious` for the distance between them.
        title: name of the case.
        volume_score: shown after the title.
        limits: map values where the colours begin and end. Default: the median inside the body, and the largest
            value; the colour bar shows them.
        banner: text in a red box above the slices.
        labels: (X, Y, Z) or (1, X, Y, Z), lesion candidates on the same grid, outlined in both rows.

    Returns:
        ``path``.

    Raises:
        ConfigurationError: if the plane is unknown, the grids differ, or no affine is known.
        OutputError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> volume = np.random.default_rng(0).random((12, 12, 5))
        >>> file = save_preview(volume, volume, Path(tempfile.mkdtemp()) / "a.png", affine=np.eye(4), slices=1)
        >>> file.stat().st_size > 1000
        True
    """
    from matplotlib.figure import Figure

    view = make_view(scan, anomaly_map, affine, plane, labels)
    chosen = most_suspicious(view.heat, view.axis, slices, spacing_mm=view.spacing[view.axis])
    grey, body = grey_range(view.scan)
    heat_range = limits or map_range(view.heat, body)

    extents = [length * n for length, n in zip(view.spacing, view.scan.shape, strict=True)]
    across, down = (extent for i, extent in enumerate(extents) if i != view.axis)
    width = 3.0
    height = width * float(np.clip(down / across, 0.4, 1.8))
    top = 0.5 + (0.34 if banner else 0.0)
    size = (max(width * len(chosen) + 1.05, 5.2), 2 * height + top + 0.62)
    figure = Figure(figsize=size, facecolor=BACKGROUND)
    grid = figure.add_gridspec(
        2,
        len(chosen),
        left=0.1 / size[0],
        right=1 - 0.95 / size[0],
        top=1 - (top + 0.12) / size[1],
        bottom=0.28 / size[1],
        wspace=0.03,
        hspace=0.03,
    )
    first = max(chosen, key=lambda index: float(upright(view.heat, view.axis, index).max()))
    shown: dict[int, Axes] = {}
    for column, index in enumerate(chosen):
        for row in (0, 1):
            axes = figure.add_subplot(grid[row, column])
            draw_slice(axes, view, index, grey, heat_range if row else None)
            draw_contours(axes, view, index, {}, numbers=row == 0)
            if row == 0:
                axes.set_title(slice_label(view, index), color=INK, fontsize=9, pad=4)
            shown[index] = axes
    colour_bar(figure, grid, heat_range, size[0])
    window = grey_label(grey) if view.colour is None else ""
    figure.text(0.1 / size[0], 0.13 / size[1], window, color=INK, fontsize=8, va="center")
    headline(figure, title, volume_score, banner, size[1])
    target = Path(path)
    with atomic_path(target) as temporary:
        marks = {
            **SAVED_AS["metadata"],
            THUMBNAIL_KEY: _box(
                figure, shown[first], upright(view.scan, view.axis, first) > grey[0] + 0.1 * (grey[1] - grey[0])
            ),
        }
        figure.savefig(temporary, **{**SAVED_AS, "metadata": marks})
    return target


def _box(figure: Figure, axes: Axes, body: np.ndarray) -> str:
    """Left, top, right and bottom of the body in a slice's image, in pixels of the file."""
    axes.apply_aspect()
    place = axes.get_position()
    width, height = (SAVED_AS["dpi"] * length for length in figure.get_size_inches())
    start = place.x0 * width, (1 - place.y1) * height
    ends = place.x1 * width, (1 - place.y0) * height
    box = []
    for axis, (first, last) in enumerate(zip(start, ends, strict=True)):
        inside = np.flatnonzero(body.any(axis=axis))
        low, high = (inside[0], inside[-1] + 1) if inside.size else (0, body.shape[1 - axis])
        box.append([first + (last - first) * share / body.shape[1 - axis] for share in (low, high)])
    return " ".join(f"{box[side][end]:.1f}" for end in (0, 1) for side in (0, 1))


def most_suspicious(anomaly_map: np.ndarray, axis: int, count: int, spacing_mm: float = 1.0) -> list[int]:
    """Slices with the highest mean of their strongest 1 % of pixels, at least 10 mm apart, in index order.

    The distance prevents that all slices show the same lesion. In a thin volume, slices may be closer.

    Args:
        anomaly_map: (X, Y, Z).
        axis: axis through the slices.
        count: maximum number of slices.
        spacing_mm: distance between slices.

    Returns:
        Indices, in order.

    Example:
        >>> heat = np.zeros((4, 4, 9))
        >>> heat[1, 1, 2], heat[1, 1, 3], heat[1, 1, 7] = 0.9, 0.8, 0.5
        >>> most_suspicious(heat, axis=2, count=2, spacing_mm=5.0)
        [2, 7]
    """
    slices = np.moveaxis(anomaly_map, axis, 0)
    if slices.strides[1] < slices.strides[2]:  # in the order of the memory, so that a slice need not be copied
        slices = slices.swapaxes(1, 2)
    strongest = max(1, round(_STRONGEST * slices[0].size))
    # Slice by slice, because a partition of the complete map would need two copies of it.
    score = np.array([_mean_of_strongest(one.reshape(-1), strongest) for one in slices])
    order = [int(i) for i in np.argsort(-score, kind="stable")]
    apart = max(1, int(np.ceil(10.0 / spacing_mm)))
    chosen: list[int] = []
    for distance in (apart, 1):
        for index in order:
            if len(chosen) < count and all(abs(index - other) >= distance for other in chosen):
                chosen.append(index)
    return sorted(chosen)


def _mean_of_strongest(values: np.ndarray, count: int) -> float:
    """Mean of the ``count`` largest values."""
    # Sorting out most of the others first is several times faster than a partition of all values.
    few = values[:: max(1, values.size // 4096)]
    above = values[values >= np.quantile(few, 1 - 3 * _STRONGEST)]
    known = above if above.size >= count else values
    return float(np.partition(known, -count)[-count:].mean())


class SavePreviewd(CaseWriter):
    """Write ``<output_dir>/<case>/preview.png`` by :func:`save_preview`.

    MONAI's ``blend_images`` and ``matshow3d`` show arrays: they are not upright, have wrong proportions, and lack
    letters of the sides and a scale.

    It can stand before ``Invertd``: then ``image`` is the input of the network, and ``pred`` is on the same grid. It
    can also stand after ``Invertd``: then ``image`` is resampled to the grid of ``pred``, and candidates can be
    outlined. Positions come from the affine, so that both figures show the same positions in mm.

    Args:
        keys: key of the anomaly map; the first channel is shown.
        image_key: key of the scan.
        output_dir: folder of the run.
        meta: the bundle's description of its model, as for :class:`~monai_zsad.writers.SaveScoresd`; random weights get
            a red warning.
        plane: see :func:`save_preview`.
        slices: see :func:`save_preview`.
        limits: see :func:`save_preview`.
        output_postfix: end of the PNG's name, before the extension.
        labels_key: key of the candidates' label map, on the grid of the map; None draws no outlines.
        allow_missing_keys: do nothing if the data do not have the key.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> volume = MetaTensor(torch.rand(1, 12, 12, 5), affine=torch.eye(4))
        >>> folder = tempfile.mkdtemp()
        >>> _ = SavePreviewd(keys="pred", output_dir=folder)({"pred": volume, "image": volume, "case": "anna"})
        >>> [file.name for file in Path(folder, "anna").iterdir()]
        ['preview.png']
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        output_dir: str | os.PathLike[str] = "./",
        meta: Meta = None,
        plane: str | None = None,
        slices: int = 3,
        limits: tuple[float, float] | None = None,
        output_postfix: str = CASE_FILES["preview"].postfix,
        allow_missing_keys: bool = False,
        labels_key: str | None = None,
    ) -> None:
        super().__init__(keys, meta, allow_missing_keys)
        self.image_key = image_key
        self.layout = CaseLayout(output_dir, output_postfix, ".png", makedirs=True)
        self.plane = plane
        self.slices = slices
        self.limits = limits
        self.labels_key = labels_key

    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Write the PNG for one key."""
        case, volume_score = str(data["case"]), data.get("volume_score")
        save_preview(
            on_grid(data[self.image_key], data[key]),
            data[key],
            self.layout.filename(subject=case),
            plane=self.plane,
            slices=self.slices,
            title=case,
            volume_score=None if volume_score is None else float(volume_score),
            limits=self.limits,
            banner=banner(self.model, data.get("unfamiliar")),
            labels=None if self.labels_key is None else data[self.labels_key],
        )


SavePreviewD = SavePreviewDict = SavePreviewd
