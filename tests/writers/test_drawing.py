"""What notebooks and documents draw with is public."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from monai_zsad.writers import drawing
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
