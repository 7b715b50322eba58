"""What notebooks and documents draw with is public."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_zsad.writers.figures import drawing
from tests.test_docstrings import all_gaps

ROOT = Path(__file__).parents[2]
USERS = [file for folder in ("notebooks", "docs") for file in sorted((ROOT / folder).glob("*.py"))]


def drawn_with(file: Path) -> set[str]:
    imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports if node.module == drawing.__name__ for alias in node.names}


@pytest.mark.parametrize("file", [file for file in USERS if drawn_with(file)], ids=lambda file: file.name)
def test_what_is_drawn_with_is_public(file: Path):
    assert drawn_with(file) <= set(drawing.__all__)


def test_something_draws():
    assert re.search("notebooks", str([file for file in USERS if drawn_with(file)]))


def test_what_is_public_is_described():
    assert not all_gaps(drawing)


def test_left_is_never_drawn_as_inferior(monkeypatch: pytest.MonkeyPatch):
    """Snapped to pixels, the foot of a small L goes at some of these sizes."""
    scan = np.zeros((8, 8, 8), dtype=np.float32)
    view = drawing.make_view(scan, scan, np.eye(4), "axial")
    edges = drawing._EDGES
    for width in np.linspace(1.9, 2.1, 12):
        pictures = []
        for letters in (edges, [[letter.replace("L", "I") for letter in four] for four in edges]):
            monkeypatch.setattr(drawing, "_EDGES", letters)
            figure = Figure((width, 2), dpi=70)
            canvas = FigureCanvasAgg(figure)
            drawing.draw_slice(figure.add_axes((0, 0, 1, 1)), view, 4, (0.0, 1.0))
            canvas.draw()
            pictures.append(np.asarray(canvas.buffer_rgba()).astype(int))
        assert np.abs(pictures[0] - pictures[1]).sum() > 1000
