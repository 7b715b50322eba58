"""A hundred studies, ten of them bad: ninety results, ten reasons, the documented exit code."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import pytest

from monai_zsad.writers import verify_manifest
from tests.bundles.runs import ROOT, run_small
from tests.data.samples import write_nifti

BAD = range(5, 100, 10)


def damage(path: Path, kind: int) -> None:
    content = path.read_bytes()
    if kind == 0:
        path.write_bytes(b"")
    elif kind == 1:
        path.write_bytes(content[: len(content) // 2])
    elif kind == 2:
        path.write_bytes(content[:-4] + b"\0\0\0\0")
    elif kind == 3:
        path.write_bytes(gzip.compress(b"no NIfTI at all"))
    else:
        write_nifti(path, (12, 10, 4, 3))


@pytest.mark.slow
def test_ten_bad_studies_among_a_hundred(tmp_path: Path) -> None:
    for number in range(100):
        # Equal base names in many folders.
        path = tmp_path / "archive" / f"{number // 25}" / f"study{number:03}" / "scan.nii.gz"
        write_nifti(path, (12, 10, 4), seed=number)
        if number in BAD:
            damage(path, number // 10 % 5)
    with pytest.raises(SystemExit) as ended:
        run_small(ROOT / "tiny_screening", tmp_path / "archive", tmp_path / "out", report=False)
    assert ended.value.code == 1

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["done"], summary["failed"]) == (90, 10)
    failed = {case["case"]: case["reason"] for case in summary["cases"] if case["status"] == "failed"}
    assert sorted(failed) == [f"study{number:03}_scan" for number in BAD]
    assert all("scan.nii.gz" in reason and "Traceback" not in reason for reason in failed.values())
    done = [case["case"] for case in summary["cases"] if case["status"] == "done"]
    assert not [problem for case in done for problem in verify_manifest(tmp_path / "out", case)]
    written = {path.name for path in (tmp_path / "out").glob("[!.]*") if path.is_dir()}
    assert written == set(done)
    # Voxels, not files: a file's header may tell them apart where the map of one case went to another.
    files = [tmp_path / "out" / case / "anomaly.nii.gz" for case in done]
    assert len({nibabel.load(file).get_fdata().tobytes() for file in files}) == 90
