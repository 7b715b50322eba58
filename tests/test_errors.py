"""One function suggests names, wherever a name is mistyped."""

from __future__ import annotations

from pathlib import Path

import pytest

import monai_zsad
from monai_zsad.errors import closest, did_you_mean

KNOWN = ["brain", "heart", "left_lung", "lung"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hart", ["heart"]),
        ("BRAIN", ["brain"]),
        ("Left Lung", ["left_lung"]),
        ("left-lnug", ["left_lung"]),
        ("lu", ["lung"]),
        ("knee", []),
        ("", []),
        (3, []),
    ],
)
def test_similar_names(name: object, expected: list[str]):
    assert closest(name, KNOWN)[:1] == expected


def test_only_a_few_are_named():
    assert closest("scan", [f"scan{number}" for number in range(9)]) == ["scan0", "scan1", "scan2"]
    assert closest("scan", [f"scan{number}" for number in range(9)], most=1) == ["scan0"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": "hart", "known": KNOWN[:2]}, "did you mean heart? Known are brain, heart"),
        ({"name": "hart", "known": KNOWN, "listed": False}, "did you mean heart?"),
        ({"name": "knee", "known": KNOWN[:2]}, "known are brain, heart"),
        ({"name": "knee", "known": KNOWN, "listed": False}, ""),
        ({"name": "lu", "known": KNOWN, "listed": False, "prefix": "--"}, "did you mean --lung?"),
        ({"name": "cardiak", "known": KNOWN[:2], "also": ["cardiac"]}, "did you mean cardiac? Known are brain, heart"),
        ({"name": "x", "known": []}, ""),
    ],
)
def test_remedies(arguments: dict[str, object], expected: str):
    assert did_you_mean(**arguments) == expected  # type: ignore[arg-type]


def test_several_names_are_joined():
    assert did_you_mean("a", ["a1", "a2", "a3"], listed=False) == "did you mean a1, a2 or a3?"


def test_no_other_module_compares_names_by_itself():
    package = Path(monai_zsad.__file__).parent
    using = [file.name for file in package.rglob("*.py") if "difflib" in file.read_text(encoding="utf-8")]
    assert using == ["errors.py"]
