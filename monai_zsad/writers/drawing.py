"""Parts of pictures: turning a scan upright, ranges of grey and colour, slices, contours, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, OutputError

__all__: list[str] = []

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Planes by the RAS axis that runs through them."""

BACKGROUND, INK = "#101216", "#e8eaed"
SAVED_AS: Mapping[str, Any] = {
    "format": "png",
    "dpi": 110,
    "facecolor": BACKGROUND,
    "metadata": {"Software": None},
    # A third of the default's time, for files that are 1 to 4 % larger.
    "pil_kwargs": {"compress_level": 3},
}
"""Options of matplotlib's ``savefig`` for all pictures."""

_WARN, _SIDES = "#d93025", "#8ab4f8"
_MOST_SUSPICIOUS, _LEAST_SUSPICIOUS = np.array([1.0, 0.23, 0.19]), np.array([1.0, 0.84, 0.04])
# Letters at the left, right, top and bottom of the picture, by the axis through the plane.
_EDGES = (("A", "P", "S", "I"), ("R", "L", "S", "I"), ("R", "L", "A", "P"))
_AXIS_LETTERS = ("LR", "PA", "IS")


@dataclass(frozen=True)
class View:
    """Scan, map and candidate labels (X, Y, Z) with axes nearest to R, A, S, and the axis through the shown plane.

    ``affine`` leads from their index to mm, ``source_affine`` from that of the scan's file; both RAS.
    """

    scan: np.ndarray
    heat: np.ndarray
    affine: np.ndarray
    source_affine: np.ndarray
    axis: int
    labels: np.ndarray | None = None

    @property
    def spacing(self) -> list[float]:
        """Distance of neighbouring voxels along the three axes, mm."""
        return [float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0)]

    def index_of(self, point: Sequence[float]) -> int:
        """Index of the shown slice nearest to a point (x, y, z) in mm, RAS."""
        index = (np.linalg.inv(self.affine) @ [*point, 1.0])[self.axis]
        return int(np.clip(np.rint(index), 0, self.scan.shape[self.axis] - 1))


def _array(volume: NdarrayOrTensor) -> np.ndarray:
    if isinstance(volume, torch.Tensor):
        plain = volume.detach().cpu()
        array = (plain.float() if plain.is_floating_point() else plain).numpy()
    else:
        array = np.asarray(volume)
    return array[0] if array.ndim == 4 else array


def on_grid(volume: NdarrayOrTensor, like: NdarrayOrTensor) -> NdarrayOrTensor:
    """The first channel of a volume (C, X, Y, Z) on the grid of another, by trilinear interpolation where they differ.

    A scan as the network saw it, cropped and resampled, is shown so under a map that is back on the scan's grid; what
    it does not cover has its smallest value.
    """
    from scipy import ndimage

    if not (isinstance(volume, MetaTensor) and isinstance(like, MetaTensor)):
        return volume
    own, wanted = volume.affine.cpu().numpy(), like.affine.cpu().numpy()
    if volume.shape[-3:] == like.shape[-3:] and np.allclose(own, wanted, atol=1e-3):
        return volume
    values = _array(volume)
    # MONAI's ResampleToMatch needs a grid of three numbers per voxel, gigabytes for a large CT.
    matrix = np.linalg.inv(own) @ wanted
    shape = tuple(like.shape[-3:])
    moved = ndimage.affine_transform(values, matrix, output_shape=shape, order=1, cval=float(values.min()))
    source = like.meta.get("original_affine")
    return MetaTensor(moved[None], affine=like.affine, meta={} if source is None else {"original_affine": source})


def make_view(
    scan: NdarrayOrTensor,
    heat: NdarrayOrTensor,
    affine: np.ndarray | None,
    plane: str | None,
    labels: NdarrayOrTensor | None = None,
) -> View:
    """Check that scan, map and labels lie on one grid, and turn them to the axes nearest to R, A, S."""
    from nibabel import orientations

    if plane is not None and plane not in PLANES:
        raise ConfigurationError(f"plane is {plane!r}; give one of {', '.join(PLANES)}, or None for the third axis")

    grid = scan.affine.cpu().numpy() if affine is None and isinstance(scan, MetaTensor) else affine
    if grid is None:
        raise ConfigurationError("affine is missing: give it, or a MetaTensor as scan")
    image, values = _array(scan), _array(heat)
    if image.shape != values.shape or image.ndim != 3:
        raise ConfigurationError(f"scan {image.shape} and map {values.shape} are not two volumes on one grid")
    if isinstance(heat, MetaTensor) and not np.allclose(heat.affine.cpu().numpy(), grid, atol=1e-3):
        raise ConfigurationError("scan and map have different affines: save the preview before Invertd, or of a copy")
    if not np.isfinite(values).all():
        raise OutputError("the anomaly map holds NaN or infinity: no preview; run in float32 (amp off)")
    marked = None if labels is None else _array(labels)
    if marked is not None and marked.shape != image.shape:
        raise ConfigurationError(f"scan {image.shape} and labels {marked.shape} are not two volumes on one grid")
    turn = orientations.io_orientation(grid)
    source = scan.meta.get("original_affine") if isinstance(scan, MetaTensor) else None
    turned = orientations.apply_orientation(image, turn)
    single = [axis for axis, size in enumerate(turned.shape) if size == 1]
    if len(single) == 1:  # as UprightOrientation: in another plane it would be a line
        plane = next(name for name, axis in PLANES.items() if axis == single[0])
    return View(
        scan=turned,
        heat=orientations.apply_orientation(values, turn),
        affine=grid @ orientations.inv_ornt_aff(turn, image.shape),
        source_affine=grid if source is None else np.asarray(source, dtype=np.float64),
        axis=int(turn[2, 0]) if plane is None else PLANES[plane],
        labels=None if marked is None else orientations.apply_orientation(marked, turn),
    )


def upright(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Slice of a volume (X, Y, Z) in RAS order: superior or anterior on top, the patient's right or anterior left."""
    return np.take(volume, index, axis=axis)[::-1, ::-1].T


def grey_range(scan: np.ndarray) -> tuple[tuple[float, float], np.ndarray]:
    """Values that become black and white, and a rough mask of the body."""
    low, high = (float(value) for value in np.percentile(scan, [0.5, 99.5]))
    body = scan > low + 0.1 * (high - low)
    if body.any():
        dark, high = (float(value) for value in np.percentile(scan[body], [1.0, 99.5], overwrite_input=True))
        low = min(dark, low)
    return (low, high if high > low else low + 1.0), body


def grey_label(grey: tuple[float, float]) -> str:
    """Window of the grey values, in the scan's own unit."""
    low, high = grey
    return f"black {low:.4g}, white {high:.4g}: level {(low + high) / 2:.4g}, width {high - low:.4g}"


def map_range(heat: np.ndarray, body: np.ndarray) -> tuple[float, float]:
    """From the median inside the body, below which nothing is coloured, to the largest value."""
    low = float(np.median(heat[body], overwrite_input=True)) if body.any() else float(heat.min())
    high = float(heat.max())
    return (low, high) if high - low > 1e-6 else (low, low + 1e-6)


def draw_slice(
    axes: Any, view: View, index: int, grey: tuple[float, float], heat_range: tuple[float, float] | None = None
) -> None:
    """Draw a slice with its sides into matplotlib axes; with the map over it where a range is given."""
    axis = view.axis
    across, down = (length for i, length in enumerate(view.spacing) if i != axis)
    options = {"aspect": down / across, "interpolation": "bilinear"}
    axes.imshow(upright(view.scan, axis, index), cmap="gray", vmin=grey[0], vmax=grey[1], **options)
    if heat_range is not None:
        heat = upright(view.heat, axis, index)
        low, high = heat_range
        share = np.clip((heat - low) / (high - low), 0.0, 1.0)
        axes.imshow(heat, cmap="inferno", vmin=low, vmax=high, alpha=0.75 * np.clip(2.5 * share, 0.0, 1.0), **options)
    axes.set_axis_off()
    for letter, (x, y) in zip(_EDGES[axis], ((0.03, 0.5), (0.97, 0.5), (0.5, 0.965), (0.5, 0.035)), strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, color=_SIDES, fontsize=9, ha="center", va="center")


def suspicion_colours(peaks: Sequence[float]) -> list[tuple[float, float, float]]:
    """RGB in [0, 1] of each candidate, from red for the highest peak score to yellow for the lowest."""
    scores = np.asarray(peaks, dtype=np.float64)
    spread = float(np.ptp(scores)) if scores.size else 0.0
    share = (scores - scores.min()) / spread if spread > 0 else np.ones(scores.shape)
    mixed = _LEAST_SUSPICIOUS + share[:, None] * (_MOST_SUSPICIOUS - _LEAST_SUSPICIOUS)
    return [(float(red), float(green), float(blue)) for red, green, blue in mixed]


def draw_contours(axes: Any, view: View, index: int, colours: Mapping[int, Any], numbers: bool = True) -> None:
    """Draw the outlines of the view's labels in a slice; ``colours`` by label, which stands beside its outline."""
    from matplotlib.patheffects import withStroke

    if view.labels is None:
        return
    marked = upright(view.labels, view.axis, index)
    limits = axes.get_xlim(), axes.get_ylim()
    for label in (int(value) for value in np.unique(marked) if value):
        # A margin closes outlines at the picture's edge.
        own = np.pad(marked == label, 1).astype(np.float32)
        rows, columns = (np.arange(length) - 1 for length in own.shape)
        colour = colours.get(label, "white")
        axes.contour(columns, rows, own, levels=[0.5], colors=[colour], linewidths=1.3)
        if numbers:
            ys, xs = np.nonzero(marked == label)
            beside = (2, 2) if xs.max() < 0.9 * marked.shape[1] else (-10, 2)
            axes.annotate(
                str(label),
                (float(xs.max()), float(ys.min())),
                xytext=beside,
                textcoords="offset points",
                color=colour,
                fontsize=9,
                weight="bold",
                path_effects=[withStroke(linewidth=2.5, foreground=BACKGROUND)],
            )
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def slice_label(view: View, index: int) -> str:
    """Index of the slice in the scan's file, and the position of its centre on the axis it is numbered along."""
    center = [(n - 1) / 2 for n in view.scan.shape]
    center[view.axis] = index
    world = view.affine @ [*center, 1.0]
    columns = view.source_affine[:3, :3] / np.linalg.norm(view.source_affine[:3, :3], axis=0)
    direction = view.affine[:3, view.axis]
    number = int(np.rint((np.linalg.inv(view.source_affine) @ world)[int(np.argmax(np.abs(direction @ columns)))]))
    millimetres = float(world[view.axis])
    return f"slice {number}   {_AXIS_LETTERS[view.axis][int(millimetres >= 0)]} {abs(millimetres):.1f} mm"


def colour_bar(figure: Any, grid: Any, heat_range: tuple[float, float], width: float) -> None:
    """Scale of the map beside the last row; ``width`` is that of the figure in inches."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low_row = grid[-1, 0].get_position(figure)
    axes = figure.add_axes((1 - 0.82 / width, low_row.y0 + 0.02, 0.14 / width, low_row.height - 0.04))
    bar = figure.colorbar(ScalarMappable(Normalize(*heat_range), "inferno"), cax=axes)
    bar.set_label("anomaly map (no unit)", color=INK, fontsize=8)
    bar.outline.set_edgecolor(INK)
    bar.ax.tick_params(colors=INK, labelsize=8)


def headline(figure: Any, title: str, volume_score: float | None, banner: str, height: float) -> None:
    """Title, score and banner on top; ``height`` is that of the figure in inches."""
    text = title if volume_score is None else f"{title}   volume score {volume_score:.3f}".strip()
    figure.text(0.02, 1 - 0.22 / height, text, color=INK, fontsize=12, weight="bold", va="center", parse_math=False)
    if banner:
        figure.text(
            0.02,
            1 - 0.52 / height,
            banner,
            color="white",
            fontsize=9,
            weight="bold",
            va="center",
            bbox={"facecolor": _WARN, "edgecolor": "none", "boxstyle": "square,pad=0.35"},
        )
