"""What scans of patients and single slices show when they are compared with one another."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from scipy import ndimage

from monai_zsad.data import LoadMask, LoadPicture, find_scans
from monai_zsad.metrics import ranking_curve
from monai_zsad.mutual.fusion import fused
from monai_zsad.synthesis.lesions import LesionSettings, paint_lesions
from monai_zsad.transforms import BodyMask
from tests.benchmarks.lesion_figures import BASELINES, Case, Row, head_case, highest_in_lesion, scores_of
from tests.benchmarks.lesion_pipeline import Pipeline
from tests.benchmarks.lesion_scans import (
    GLIOBLASTOMA_DEPTH_MM,
    MS_PATIENTS,
    RING,
    brain_case,
    read_scan,
    slice_auroc,
)
from tests.benchmarks.mutual_pipeline import FINE, Cohort, each_backbone

# Eight of the eleven patients are among the training data of the included model.
UNSEEN = ("09", "10", "11")
# Slices of one plane, by number; found by eye. The training saw none of these blocks. Those of the choice are not
# among those of the test.
TEST_PLANES = {
    "axial": (*range(1400, 1456), *range(1900, 2000)),
    "coronal": (*range(400, 442), *range(1456, 1500)),
    "sagittal": (*range(442, 500), *range(2900, 3000)),
}
CHOICE_PLANES = {"axial": tuple(range(922, 1000)), "coronal": tuple(range(2403, 2500))}
# Every second slice is taken. Slices whose numbers differ by less are likely of one patient and not compared.
STEP, APART = 2, 12
SIDE = 256
# Painted lesions of the choice: the scan, how many, and how deep below the skin they lie.
PAINTED, LESIONS, DEPTH_MM = "patient20", 10, 22.0
LOOK = LesionSettings(radius_mm=(3.0, 12.0))

Scans = Sequence[tuple[Mapping[str, Any], Case]]


def glioblastoma(cohort: Cohort, data: Path) -> list[Row]:
    """Eleven scans of patients with glioblastoma, each compared with the ten others."""
    patients = [file.name.partition("_")[0] for file in sorted((data / "btp").glob("*_mask.nii.gz"))]
    with tempfile.TemporaryDirectory() as folder:
        scans = []
        for patient in patients:
            files = (data / "btp" / f"{patient}.nii.gz", data / "btp" / f"{patient}_mask.nii.gz")
            path, image, truth = read_scan(*files, Path(folder), GLIOBLASTOMA_DEPTH_MM)
            scans.append((find_scans(path)[0], head_case(image, truth, RING)))
        others = [[other for other, _ in scans if other is not record] for record, _ in scans]
        groups = {
            "post-contrast T1, 11 patients": range(len(patients)),
            f"of these, {len(UNSEEN)} that the model was not trained on": [patients.index(one) for one in UNSEEN],
        }
        return _volumes(cohort, {"looked for": "glioblastoma"}, scans, others, groups)


def multiple_sclerosis(cohort: Cohort, data: Path) -> list[Row]:
    """Two patients, compared with the scans of other patients and scanners, or with one another."""
    scans = []
    for patient in MS_PATIENTS:
        start = data / "ms3d" / f"patient{patient}"
        path, image, truth = read_scan(Path(f"{start}_FLAIR.nii.gz"), Path(f"{start}_lesions.nii.gz"), data)
        scans.append((find_scans(path)[0], brain_case(image, truth)))
    others = _whole_heads(data, "FLAIR")
    groups = {f"FLAIR, patient {patient}": [place] for place, patient in enumerate(MS_PATIENTS)}
    rows = []
    for name, lists in (
        (f"{len(others)} whole heads", [others, others]),
        ("the other patient", [[record] for record, _ in reversed(scans)]),
    ):
        named = {"looked for": "multiple sclerosis", "compared with": name}
        rows += _volumes(cohort, named, scans, lists, groups, alone=name != "the other patient")
    return rows


def painted(cohort: Cohort, data: Path) -> list[Row]:
    """Painted lesions in scans of one patient, compared with those of other patients: for the choice of settings."""
    rows = []
    for contrast in ("FLAIR", "T1W"):
        file = next((data / "mslong").glob(f"{PAINTED}_*_{contrast}.nii.gz"))
        others = [one for one in _whole_heads(data, contrast) if PAINTED not in one["case"]]
        with tempfile.TemporaryDirectory() as folder:
            image, truth = _paint(file, Path(folder) / f"painted_{contrast}.nii.gz")
            record = find_scans(Path(folder) / f"painted_{contrast}.nii.gz")[0]
            scans = [(record, head_case(image, truth, 2))]
            named = {"looked for": "painted lesions"}
            groups = {f"{contrast}, {LESIONS} lesions": [0]}
            rows += _volumes(cohort, named, scans, [others], groups, alone=False)
            cohort.forget()
    return rows


def _paint(file: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    scan = nibabel.load(file)
    image, spacing = scan.get_fdata(dtype=np.float32), scan.header.get_zooms()
    body = np.asarray(BodyMask()(image[None]))[0] > 0
    deep = ndimage.distance_transform_edt(body, spacing) > DEPTH_MM
    found = paint_lesions(image, spacing, body, LESIONS, np.random.default_rng(2020), LOOK, places=deep * 1.0)
    nibabel.save(nibabel.Nifti1Image(found.image, scan.affine), out)
    return found.image, found.labels > 0


def _whole_heads(data: Path, contrast: str) -> list[Mapping[str, Any]]:
    return [find_scans(file)[0] for file in sorted((data / "mslong").glob(f"*_{contrast}.nii.gz"))]


def _volumes(
    cohort: Cohort,
    named: Row,
    scans: Scans,
    others: Sequence[Sequence[Mapping[str, Any]]],
    groups: Mapping[str, Sequence[int]],
    *,
    alone: bool = True,
) -> list[Row]:
    """Rows of groups of scans: of every backbone, and, if ``alone``, of the included model and the baselines."""
    cases = [case for _, case in scans]

    def rows(name: str, maps: Sequence[np.ndarray], scores: Sequence[Mapping[int, float]] | None = None) -> list[Row]:
        own = scores or [scores_of(one, case.body) for case, one in zip(cases, maps, strict=True)]
        found = []
        for group, places in groups.items():
            part = [cases[place] for place in places]
            row = precision(part, [maps[place] for place in places])
            row["slice AUROC"] = slice_auroc(part, [own[place] for place in places])
            found.append({**named, "on": group, "map": name, **row})
        return found

    def mutual(backbone: str) -> list[Row]:
        found = []
        for fuse in ("none", "mean", "rank") if backbone == FINE else ("none",):
            compared = [cohort.compare(record, own, fuse) for (record, _), own in zip(scans, others, strict=True)]
            name = f"mutual, {backbone}" if fuse == "none" else f"mutual, {backbone}, with prompts ({fuse})"
            scores = None if fuse != "none" else [one.slice_scores for one in compared]
            found += rows(name, [one.anomaly for one in compared], scores)
        return found

    found = each_backbone(cohort, mutual)
    if alone:
        prompts = Pipeline(cohort.included_bundle)
        screened = [prompts.screen(record) for record, _ in scans]
        found += rows("prompts alone", [one.anomaly for one in screened], [one.slice_scores for one in screened])
        for name, function in BASELINES.items():
            found += rows(name, [function(case.image, case.body) for case in cases])
    return found


def precision(cases: Sequence[Case], maps: Sequence[np.ndarray]) -> Row:
    """AP and best Dice of the voxels that count, of all cases together."""
    pairs = list(zip(cases, maps, strict=True))
    values = np.concatenate([anomaly[case.scored] for case, anomaly in pairs])
    curve = ranking_curve(values, np.concatenate([case.truth[case.scored] for case in cases]))
    return {"AP": curve.average_precision(), "best Dice": curve.f1_max().value}


def slices(cohort: Cohort, data: Path, planes: Mapping[str, Sequence[int]]) -> list[Row]:
    """Sets of slices of one plane. All have a tumour, so only pixels are ranked."""
    rows: list[Row] = []
    for plane, every in planes.items():
        numbers = list(every)[::STEP]
        images = torch.stack([LoadPicture(SIDE)(_file(data, "image", n, "jpg")).mean(0, keepdim=True) for n in numbers])
        masks = [LoadMask(SIDE)(_file(data, "mask", n, "png"))[0].numpy() > 0 for n in numbers]
        cases = [
            head_case(one[0].numpy()[..., None], mask[..., None], RING) for one, mask in zip(images, masks, strict=True)
        ]
        choice = [[place for place, n in enumerate(numbers) if abs(n - own) >= APART] for own in numbers]
        named = {"looked for": "tumours", "on": f"post-contrast T1, {len(numbers)} {plane} slices"}
        rows += _slices(cohort, named, cases, images, choice)
    return rows


def _file(data: Path, kind: str, number: int, ending: str) -> Path:
    return data / "tumours_t1c" / kind / f"{number:04d}.{ending}"


def _slices(
    cohort: Cohort, named: Row, cases: list[Case], images: torch.Tensor, choice: Sequence[Sequence[int]]
) -> list[Row]:
    def row(name: str, maps: np.ndarray) -> Row:
        each = [one[..., None] for one in maps]
        return {**named, "map": name, **precision(cases, each), "highest in lesion": highest_in_lesion(cases, each)}

    prompts = Pipeline(cohort.included_bundle).slices(images).anomaly

    def mutual(backbone: str) -> list[Row]:
        maps = cohort.maps(images, choice)
        found = [row(f"mutual, {backbone}", maps)]
        if backbone == FINE:
            body = torch.from_numpy(np.stack([case.body[..., 0] for case in cases]))
            for fuse in ("mean", "rank"):
                both = fused(torch.from_numpy(maps)[None], torch.from_numpy(prompts)[None], body[None], fuse)
                found.append(row(f"mutual, {backbone}, with prompts ({fuse})", both[0].numpy()))
        return found

    rows = each_backbone(cohort, mutual)
    baselines: dict[str, Callable[..., np.ndarray]] = BASELINES
    rows += [row("prompts alone", prompts)]
    return rows + [
        row(name, np.stack([function(one.image, one.body)[..., 0] for one in cases]))
        for name, function in baselines.items()
    ]
