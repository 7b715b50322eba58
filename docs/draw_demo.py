"""Draw the README's picture from the results of ``make demo``: ``python docs/draw_demo.py [DEMO_OUTPUT] [PNG]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from matplotlib.figure import Figure

from monai_zsad.writers.figures.drawing import (
    BACKGROUND,
    INK,
    View,
    colour_bar,
    draw_contours,
    draw_slice,
    grey_range,
    make_view,
    map_range,
)

CASE = "sample_flair"
OUTLINE = "#4ade80"
SIDE = 3.0  # of a panel, inches


def demo_view(demo: Path) -> tuple[View, dict[str, Any]]:
    """Scan, map and the painted lesion's mask (as label 1) of a demo, and the content of its findings."""
    case = demo / "results" / CASE
    findings = json.loads((case / "findings.json").read_text(encoding="utf-8"))
    files = demo / "scan" / f"{CASE}.nii.gz", case / findings["files"]["anomaly_map"]
    scan, heat, lesion = map(nibabel.load, (*files, demo / "scan" / f"{CASE}_lesion.nii.gz"))
    mask = (np.asanyarray(lesion.dataobj) > 0).astype(np.uint8)
    return make_view(scan.get_fdata(), heat.get_fdata(), scan.affine, "axial", mask), findings


def two_slices(view: View) -> tuple[int, int]:
    """The slice with most of the lesion, and the one with the highest value among those without any of it."""
    area = np.zeros(view.heat.shape[2]) if view.labels is None else view.labels.sum(axis=(0, 1))
    return int(area.argmax()), int(np.where(area > 0, 0.0, view.heat.max(axis=(0, 1))).argmax())


def draw(demo: Path, target: Path) -> None:
    """Scan and map of the slice with the lesion, and the map of the worst slice without one, in one colour scale."""
    view, findings = demo_view(demo)
    lesion, other = two_slices(view)
    (_, white), body = grey_range(view.scan)
    grey = (0.06 * white, white)  # the noise of the air would be half of the file
    heat_range = map_range(view.heat, body)
    width, height = 3 * SIDE + 1.0, SIDE + 0.85
    figure = Figure(figsize=(width, height), facecolor=BACKGROUND)
    grid = figure.add_gridspec(
        1, 3, left=0.1 / width, right=1 - 0.95 / width, bottom=0.1 / height, top=1 - 0.75 / height, wspace=0.03
    )
    shown = (
        ("scan", lesion, None),
        ("anomaly map", lesion, heat_range),
        ("a slice without a lesion: false alarm", other, heat_range),
    )
    for column, (what, index, colours) in enumerate(shown):
        axes = figure.add_subplot(grid[0, column])
        draw_slice(axes, view, index, grey, colours)
        draw_contours(axes, view, index, {1: OUTLINE}, numbers=False)
        axes.set_title(what, color=INK, fontsize=11, pad=5)
        length = 50 / view.spacing[0]
        axes.plot([6, 6 + length], [view.scan.shape[1] - 8] * 2, color=INK, linewidth=2)
        axes.text(6, view.scan.shape[1] - 12, "50 mm", color=INK, fontsize=8)
    colour_bar(figure, grid, heat_range, width)
    model = findings["model"]["weights"]["network"]["name"]
    title = f"Synthetic head with one painted lesion (green), screened with {model}"
    figure.text(0.1 / width, 1 - 0.25 / height, title, color=INK, fontsize=13, weight="bold", va="center")
    # As wide as GitHub shows it.
    figure.savefig(target, dpi=84, facecolor=BACKGROUND, metadata={"Software": None})


if __name__ == "__main__":
    places = [Path(word) for word in sys.argv[1:]]
    defaults = [Path("demo_output"), Path(__file__).parent / "images" / "demo.png"]
    draw(*places, *defaults[len(places) :])
