"""The benchmark of lesion finding: its figures, and how it keeps and joins results. No model is run."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.benchmarks import lesion_figures, lesion_finding
from tests.benchmarks.lesion_figures import Case, figures, has_candidate, head_case, highest_in_lesion
from tests.benchmarks.lesion_nothing import noise
from tests.benchmarks.lesion_scans import read_scan
from tests.benchmarks.lesion_slices import held_out

RUN: dict[str, Any] = {"leave_out": "glioma", "slices": None, "weights": "a"}


@pytest.fixture
def head() -> Case:
    image = np.zeros((64, 64, 1), dtype=np.float32)
    image[8:56, 8:56] = 0.3
    image[20:30, 20:30] = 1
    return head_case(image, image == 1, ring=5)


def test_doctests() -> None:
    assert doctest.testmod(lesion_figures).failed == 0


def test_ring_around_a_lesion_does_not_count(head: Case) -> None:
    assert head.body.sum() == 48 * 48
    assert head.scored[25, 25, 0]
    assert not head.scored[25, 32, 0]
    assert head.scored[25, 36, 0]
    in_ring = head.truth.astype(np.float32)
    in_ring[25, 32] = 2
    assert figures([head], [in_ring])["AP"] == 1
    assert highest_in_lesion([head], [in_ring]) == 1


def test_a_map_that_is_high_everywhere_finds_nothing(head: Case) -> None:
    found = figures([head], [np.ones_like(head.image)], calibrated=True)
    assert (found["sensitivity at 0.5"], found["FP at 0.5"]) == (0, 1)


@pytest.mark.parametrize("name", lesion_figures.BASELINES)
def test_baselines_see_a_bright_lesion(head: Case, name: str) -> None:
    grain = np.random.default_rng(0).normal(0, 0.02, head.image.shape)
    anomaly = lesion_figures.BASELINES[name](head.image + grain.astype(np.float32), head.body)
    assert figures([head], [anomaly])["AP"] > 0.9


def test_candidate_of_a_slice_is_one_area() -> None:
    anomaly = np.zeros((9, 9))
    anomaly[::2, ::2] = 0.9
    assert not has_candidate(anomaly, 2)
    anomaly[1, 1] = 0.6
    assert has_candidate(anomaly, 5)
    assert not has_candidate(anomaly, 6)


def test_noise_is_the_same_every_time() -> None:
    images = noise(6.0, 2, 32)
    assert images.shape == (2, 3, 32, 32)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert bool((images == noise(6.0, 2, 32)).all())


def test_held_out_blocks(tmp_path: Path) -> None:
    (tmp_path / "tumours_t1c").mkdir()
    rows = [f"{n},{'glioma' if n % 2 else 'pituitary'},{n // 10}" for n in range(1, 100)]
    (tmp_path / "tumours_t1c" / "index.csv").write_text("\n".join(["number,class,block", *rows]))
    assert held_out(tmp_path, "glioma") == [41, 43, 45, 47, 49, 91, 93, 95, 97, 99]
    assert held_out(tmp_path, "glioma", 3) == [41, 49, 99]


def test_read_scan_sets_the_distance_of_slices(tmp_path: Path) -> None:
    volume = np.arange(4 * 4 * 8, dtype=np.float32).reshape(4, 4, 8)
    mask = np.zeros_like(volume)
    mask[..., 5:7] = 1
    for name, values in (("scan", volume), ("mask", mask)):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii.gz")
    files = (tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz")
    assert read_scan(*files, tmp_path)[0] == files[0]
    (tmp_path / "changed").mkdir()
    path, image, truth = read_scan(*files, tmp_path / "changed", depth_mm=6.5, limit=4)
    assert np.allclose(nibabel.load(path).header.get_zooms(), (1, 1, 6.5))
    assert np.array_equal(image, volume[..., 3:7])
    assert truth.any((0, 1)).tolist() == [False, False, True, True]


def test_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def measured(pipeline: Any, data: Path, limit: int | None) -> list[dict[str, Any]]:
        calls.append(data.name)
        return [{"looked for": "x", "map": "intensity", "AP": 0.5}]

    parts = {"here": (measured, ()), "away": (measured, ("nowhere",))}
    monkeypatch.setattr(lesion_finding, "PARTS", parts)
    out = tmp_path / "out.json"
    for _ in range(2):
        results = lesion_finding.opened(out, RUN, overwrite=False)
        lesion_finding.measure(None, tmp_path, out, list(parts), results)  # type: ignore[arg-type]  # never called
    assert len(calls) == 1
    kept = json.loads(out.read_text())
    assert list(kept["parts"]) == ["here"]
    assert "nowhere is missing" in kept["skipped"]["away"]
    with pytest.raises(SystemExit, match=r"another run \(weights\)"):
        lesion_finding.opened(out, RUN | {"weights": "b"}, overwrite=False)
    assert not lesion_finding.opened(out, RUN | {"weights": "b"}, overwrite=True)["parts"]


def test_results_are_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"looked for": "glioma", "on": "slices"}
    rows = [
        {**names, "map": one, "AP": value} for one, value in zip(lesion_finding.MAPS, (0.5, 0.25, 0.125), strict=True)
    ]
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"run": RUN, "parts": {"glioma": rows, "speed": [{"ms": 1}]}}))
    lesion_finding.show(lesion_finding.joined([file]), "joined")
    printed = capsys.readouterr().out
    assert "| trained without | looked for | on | AP |" in printed
    assert "| glioma | glioma | slices | 0.500 / 0.250 / 0.125 |" in printed
    assert "speed" not in printed


def test_a_pathology_is_left_out_of_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lesion_finding.arguments(["--data", "d", "--out", "o", "--leave_out", "ms"])
    assert "needs the --checkpoint" in capsys.readouterr().err
    assert {part for parts in lesion_finding.LEFT_OUT.values() for part in parts} < set(lesion_finding.FINDING)
