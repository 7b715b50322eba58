"""Parts of figures: ranges of grey values and colours, slices, outlines, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_zsad.writers.figures.views import View, make_view, upright

__all__ = [
    "BACKGROUND",
    "INK",
    "View",
    "colour_bar",
    "draw_contours",
    "draw_slice",
    "grey_label",
    "grey_range",
    "make_view",
    "map_range",
    "slice_label",
    "upright",
]

BACKGROUND, INK = "#101216", "#e8eaed"
SAVED_AS: Mapping[str, Any] = {
    "format": "png",
    "dpi": 110,
    "facecolor": BACKGROUND,
    "metadata": {"Software": None},
    # Faster than the default, for slightly larger files.
    "pil_kwargs": {"compress_level": 3},
}
"""Options of matplotlib's ``savefig`` for all figures."""

THUMBNAIL_KEY = "Thumbnail"
"""Text in the header of a preview: left, top, right and bottom of the body in its most suspicious slice, in pixels."""

_SAMPLES = 2_000_000
_WARN, _SIDES = "#d93025", "#8ab4f8"
_MOST_SUSPICIOUS, _LEAST_SUSPICIOUS = np.array([1.0, 0.23, 0.19]), np.array([1.0, 0.84, 0.04])
# Letters at the left, right, top and bottom of the figure, by the axis through the plane.
_EDGES = (("A", "P", "S", "I"), ("R", "L", "S", "I"), ("R", "L", "A", "P"))
_AXIS_LETTERS = ("LR", "PA", "IS")


def thinned(volume: np.ndarray) -> np.ndarray:
    """At most two million voxels of a volume, on a regular grid; a smaller volume itself. They give its percentiles.

    Args:
        volume: (X, Y, Z), or with further axes.

    Returns:
        A view of the volume's memory.

    Example:
        >>> thinned(np.zeros((300, 300, 100))).shape
        (150, 150, 50)
    """
    step = int(np.ceil((volume.size / _SAMPLES) ** (1 / 3)))
    return volume[(slice(None, None, step),) * min(volume.ndim, 3)] if step > 1 else volume


def grey_range(scan: np.ndarray) -> tuple[tuple[float, float], np.ndarray]:
    """Values that become black and white, and a rough mask of the body.

    Args:
        scan: array of any shape.

    Returns:
        The two values in the scan's own unit, and the mask, of the shape of the thinned scan.

    Example:
        >>> grey_range(np.full((2, 2), 7.0))[0]
        (7.0, 8.0)
    """
    scan = thinned(scan)
    low, high = (float(value) for value in np.percentile(scan, [0.5, 99.5]))
    body = scan > low + 0.1 * (high - low)
    if body.any():
        dark, high = (float(value) for value in np.percentile(scan[body], [1.0, 99.5], overwrite_input=True))
        low = min(dark, low)
    return (low, high if high > low else low + 1.0), body


def grey_label(grey: tuple[float, float]) -> str:
    """The window as text.

    Args:
        grey: values that are black and white, in the scan's own unit.

    Returns:
        The text.

    Example:
        >>> grey_label((-160.0, 240.0))
        'black -160, white 240: level 40, width 400'
    """
    low, high = grey
    return f"black {low:.4g}, white {high:.4g}: level {(low + high) / 2:.4g}, width {high - low:.4g}"


def map_range(heat: np.ndarray, body: np.ndarray) -> tuple[float, float]:
    """Values where the map's colours begin and end: its median inside the body, and its largest value.

    Args:
        heat: map of any shape.
        body: mask from :func:`grey_range` of a scan of the same shape.

    Returns:
        The two values.

    Example:
        >>> map_range(np.array([0.1, 0.2, 0.9]), np.array([False, True, True]))
        (0.55, 0.9)
    """
    low = float(np.median(thinned(heat)[body], overwrite_input=True)) if body.any() else float(heat.min())
    high = float(heat.max())
    return (low, high) if high - low > 1e-6 else (low, low + 1e-6)


def draw_slice(
    axes: Any, view: View, index: int, grey: tuple[float, float], heat_range: tuple[float, float] | None = None
) -> None:
    """Draw a slice with the letters of its sides; a photograph in its colours and without letters.

    Args:
        axes: matplotlib axes.
        view: view from :func:`make_view`.
        index: index of the slice.
        grey: values that become black and white.
        heat_range: values where the map's colours begin and end; None leaves the map out.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> scan = np.arange(24.0).reshape(2, 3, 4)
        >>> draw_slice(axes, make_view(scan, scan, np.eye(4), "axial"), 1, (0.0, 24.0))
        >>> [text.get_text() for text in axes.texts]
        ['R', 'L', 'A', 'P']
    """
    from matplotlib.patheffects import withStroke

    axis = view.axis
    across, down = (length for i, length in enumerate(view.spacing) if i != axis)
    options = {"aspect": down / across, "interpolation": "bilinear"}
    if view.colour is None:
        axes.imshow(upright(view.scan, axis, index), cmap="gray", vmin=grey[0], vmax=grey[1], **options)
    else:
        axes.imshow(np.stack([upright(channel, axis, index) for channel in view.colour], axis=-1), **options)
    if heat_range is not None:
        heat = upright(view.heat, axis, index)
        low, high = heat_range
        share = np.clip((heat - low) / (high - low), 0.0, 1.0)
        axes.imshow(heat, cmap="inferno", vmin=low, vmax=high, alpha=0.75 * np.clip(2.5 * share, 0.0, 1.0), **options)
    axes.set_axis_off()
    if view.colour is not None:  # a photograph does not show the patient's sides
        return
    for letter, (x, y) in zip(_EDGES[axis], ((0.03, 0.5), (0.97, 0.5), (0.5, 0.965), (0.5, 0.035)), strict=True):
        edge = [withStroke(linewidth=1.5, foreground="black")]  # for letters on bright tissue
        # Without snapping to pixels: in a small figure, an L would lose its foot and look like an I.
        placed = {"transform": axes.transAxes, "ha": "center", "va": "center", "snap": False}
        axes.text(x, y, letter, color=_SIDES, fontsize=10, path_effects=edge, **placed)


def suspicion_colours(peaks: Sequence[float]) -> list[tuple[float, float, float]]:
    """RGB in [0, 1] of each candidate, from red for the highest peak score to yellow for the lowest."""
    scores = np.asarray(peaks, dtype=np.float64)
    spread = float(np.ptp(scores)) if scores.size else 0.0
    share = (scores - scores.min()) / spread if spread > 0 else np.ones(scores.shape)
    mixed = _LEAST_SUSPICIOUS + share[:, None] * (_MOST_SUSPICIOUS - _LEAST_SUSPICIOUS)
    return [(float(red), float(green), float(blue)) for red, green, blue in mixed]


def draw_contours(axes: Any, view: View, index: int, colours: Mapping[int, Any], numbers: bool = True) -> None:
    """Draw the outlines of the view's labels over a slice.

    Args:
        axes: the axes given to :func:`draw_slice`.
        view: view from :func:`make_view`, with labels; without labels, nothing is drawn.
        index: index of the slice.
        colours: matplotlib colour of each label; white for labels without a colour.
        numbers: whether to write each label beside its outline.
    """
    from matplotlib.patheffects import withStroke
    from scipy import ndimage

    if view.labels is None:
        return
    marked = upright(view.labels, view.axis, index).astype(np.int32)
    limits = axes.get_xlim(), axes.get_ylim()
    boxes = ndimage.find_objects(marked)
    for label, box in ((label, box) for label, box in enumerate(boxes, 1) if box is not None):
        # Only the box, because a figure keeps the array of an outline. The margin closes outlines at the image edge.
        own = np.pad(marked[box] == label, 1).astype(np.float32)
        rows, columns = (np.arange(part.start - 1, part.stop + 1) for part in box)
        colour = colours.get(label, "white")
        axes.contour(columns, rows, own, levels=[0.5], colors=[colour], linewidths=1.3)
        if numbers:
            top, right = box[0].start, box[1].stop - 1
            beside = (2, 2) if right < 0.9 * marked.shape[1] else (-10, 2)
            axes.annotate(
                str(label),
                (float(right), float(top)),
                xytext=beside,
                textcoords="offset points",
                color=colour,
                fontsize=10,
                weight="bold",
                path_effects=[withStroke(linewidth=2.5, foreground=BACKGROUND)],
            )
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def slice_label(view: View, index: int) -> str:
    """The position of a slice: its index in the file of the scan, and its centre on the axis through the slices.

    Args:
        view: view from :func:`make_view`.
        index: index of the slice in the view.

    Returns:
        The text.

    Example:
        >>> scan = np.zeros((2, 3, 4))
        >>> slice_label(make_view(scan, scan, np.diag([1, 1, 5, 1]), "axial"), 2)
        'slice 2   S 10.0 mm'
    """
    center = [(n - 1) / 2 for n in view.scan.shape]
    center[view.axis] = index
    world = view.affine @ [*center, 1.0]
    columns = view.source_affine[:3, :3] / np.linalg.norm(view.source_affine[:3, :3], axis=0)
    direction = view.affine[:3, view.axis]
    number = int(np.rint((np.linalg.inv(view.source_affine) @ world)[int(np.argmax(np.abs(direction @ columns)))]))
    millimetres = float(world[view.axis])
    return f"slice {number}   {_AXIS_LETTERS[view.axis][int(millimetres >= 0)]} {abs(millimetres):.1f} mm"


def colour_bar(figure: Any, grid: Any, heat_range: tuple[float, float], width: float) -> None:
    """Draw the map's scale beside the last row of slices.

    Args:
        figure: matplotlib figure.
        grid: axes of the figure, (rows, columns).
        heat_range: values where the colours begin and end.
        width: width of the figure in inches.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low_row = grid[-1, 0].get_position(figure)
    axes = figure.add_axes((1 - 0.82 / width, low_row.y0 + 0.02, 0.14 / width, low_row.height - 0.04))
    bar = figure.colorbar(ScalarMappable(Normalize(*heat_range), "inferno"), cax=axes)
    bar.set_label("anomaly map (no unit)", color=INK, fontsize=10)
    bar.outline.set_edgecolor(INK)
    bar.ax.tick_params(colors=INK, labelsize=10)


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
            fontsize=10,
            weight="bold",
            va="center",
            bbox={"facecolor": _WARN, "edgecolor": "none", "boxstyle": "square,pad=0.35"},
        )
