"""The program that measures what is found when scans are compared with one another: the parts that need no data."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from tests.benchmarks.lesion_figures import Row
from tests.benchmarks.mutual_finding import PARTS, arguments, shown
from tests.benchmarks.mutual_phantoms import CENTER_MM, RADIUS_MM, Phantoms
from tests.benchmarks.mutual_sets import CHOICE_PLANES, TEST_PLANES


def test_a_table_has_a_row_for_each_map() -> None:
    rows: list[Row] = [
        {"map": "one", "on": "a", "AP": 0.5, "slice AUROC": 0.75},
        {"map": "one", "on": "a", "compared with": "b", "AP": 0.25},
        {"map": "two", "left out": "weights are missing"},
    ]
    lines = shown("ms", rows).splitlines()
    assert lines[3] == "| map | a | a, with b | left out |"
    assert lines[5:] == ["| one | 0.50 / 0.75 | 0.25 |  |", "| two |  |  | weights are missing |"]


def test_what_is_chosen_on_is_not_the_test() -> None:
    chosen, tested = ({n for every in planes.values() for n in every} for planes in (CHOICE_PLANES, TEST_PLANES))
    assert not chosen & tested
    # The held-out blocks of the included model.
    assert {n // 100 % 5 for n in chosen | tested} == {4}
    assert arguments(["--data", "d", "--out", "o"]).what == list(PARTS)


def test_lesions_at_the_same_place(tmp_path: Path) -> None:
    phantoms = Phantoms(tmp_path)
    plain, same = (nibabel.load(phantoms.scan(3, kind)["image"]) for kind in ("", "same"))
    places = np.argwhere(same.get_fdata() - plain.get_fdata() > 1) @ same.affine[:3, :3].T + same.affine[:3, 3]
    assert len(places) > 10
    assert np.linalg.norm(places - CENTER_MM, axis=1).max() < RADIUS_MM
