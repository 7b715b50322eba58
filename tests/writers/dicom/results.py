"""A small DICOM series, a map and candidates on its grid, and what is written of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.data import ScanReader
from monai_zsad.transforms import LesionCandidatesd
from monai_zsad.writers import SaveDicomd
from tests.data.samples import write_series

MODEL = {"method": "Crane", "weights": {"clip": {"name": "ViT-L-14-336:openai", "seed": None}}}
COMPLETE: dict[str, Any] = {
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
    "AccessionNumber": "A1",
    "StudyID": "S1",
    "StudyDate": "20200304",
    "StudyTime": "101112",
    "ReferringPhysicianName": "Ref^Doc",
    "Manufacturer": "ACME",
}
OBLIQUE = (0.8, 0.36, -0.48, 0.0, 0.8, 0.6)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SERIES: dict[str, dict[str, Any]] = {
    "tilted": {},
    "reversed": {"step": -2.5, "SliceThickness": 2.5},
    "oblique": {"orientation": OBLIQUE},
    "oblique reversed": {"orientation": OBLIQUE, "step": -1.5, "SliceThickness": 1.5},
    "sagittal": {"orientation": SAGITTAL},
    "coronal CT": {
        "orientation": CORONAL,
        "modality": "CT",
        "sop_class": "1.2.840.10008.5.1.4.1.1.2",
    },
    "negative distance": {"SpacingBetweenSlices": -2.5},
    "one slice": {"slices": 1},
}


LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass
class Case:
    files: list[Path]
    data: dict[Hashable, Any]
    values: np.ndarray
    affine: np.ndarray
    labels: np.ndarray

    @property
    def candidates(self) -> list[Any]:
        return self.data["pred_candidates"]


def anomaly(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A map with two suspicious regions, different in every voxel."""
    values = np.random.default_rng(seed).random(shape, dtype=np.float32) * np.float32(0.4)
    values[:2, :3, 1:3] += 0.6
    values[3:, 4:, -1] += 0.5
    return values


def read(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Values (X, Y, Z) and affine (RAS) as a bundle reads them."""
    values, meta = ScanReader().get_data(files)
    return values, meta["affine"]


def read_result(path: Path, affine: np.ndarray) -> np.ndarray:
    """Values (X, Y, Z) of a written image as highdicom reads them, on the grid of ``affine``, which is theirs."""
    import highdicom

    volume = highdicom.imread(path).get_volume()
    grid = LPS @ volume.affine[:, [2, 1, 0, 3]]
    values = volume.array.transpose(2, 1, 0)
    between = np.linalg.inv(affine) @ grid
    if between[2, 2] < 0:
        values, last = values[:, :, ::-1], values.shape[2] - 1
        between = between @ np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, last], [0, 0, 0, 1]])
    np.testing.assert_allclose(between, np.eye(4), atol=1e-4)
    return values


def make_case(files: list[Path], threshold: float = 0.5, values: np.ndarray | None = None) -> Case:
    scan, affine = read(files)
    values = anomaly(scan.shape) if values is None else values
    meta = {"source_files": "\n".join(map(str, files))}
    pred = MetaTensor(torch.from_numpy(values[None].copy()), affine=torch.from_numpy(affine), meta=meta)
    image = MetaTensor(torch.from_numpy(scan[None].copy()), affine=torch.from_numpy(affine), meta=meta)
    data = LesionCandidatesd("pred", threshold=threshold, min_volume_mm3=0)(
        {"case": "anna", "pred": pred, "image": image}
    )
    return Case(files, data, values, affine, data["pred_labels"][0].numpy())


def series(folder: Path, kind: str = "tilted", **changes: Any) -> list[Path]:
    return write_series(folder, **{**COMPLETE, **SERIES[kind], **changes})


def save(case: Case, folder: Path, **options: Any) -> dict[str, Path]:
    SaveDicomd(keys="pred", output_dir=folder, **{"meta": MODEL, **options})(case.data)
    return {kind: folder / "anna" / f"{kind}.dcm" for kind in ("seg", "pm", "sr", *options.get("kinds", ())[3:])}


def frames_by_source(result: pydicom.Dataset) -> dict[tuple[str, int], tuple[pydicom.Dataset, np.ndarray]]:
    """Functional groups and pixels of each frame, by the source instance that it names and its segment (or 0)."""
    pixels = result.pixel_array.reshape(-1, result.Rows, result.Columns)
    found = {}
    for groups, frame in zip(result.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        segment = 0
        if "SegmentIdentificationSequence" in groups:
            segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[source.ReferencedSOPInstanceUID, segment] = groups, frame
    assert len(found) == len(pixels)
    return found


def dciodvfy_errors(path: Path) -> set[str]:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is absent: install dicom3tools")
    done = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}
