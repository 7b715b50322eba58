"""Lesion finding in single slices: tumours of held-out blocks, and the free slices of a patient without a tumour."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from monai_zsad.data import LoadMask, LoadPicture
from monai_zsad.metrics import auroc
from tests.benchmarks.lesion_figures import BASELINES, Row, figures, fraction, head_case, highest_in_lesion, scores_of
from tests.benchmarks.lesion_pipeline import Pipeline
from tests.benchmarks.lesion_scans import RING, T1C_WORDS

CLASSES = {"meningioma": "meningioma", "glioma": "glioma", "pituitary": "pituitary tumour"}
# The training does not see blocks whose number leaves this remainder. Neighbours in number are often of one patient.
BLOCKS, HELD_OUT = 5, 4
SIDE = 256

# This patient has multiple sclerosis and is not seen by the training. These slices of the axial FLAIR and T1 show no
# lesion; found by eye on FLAIR, not by a radiologist. In the others of the brain there is at least one bright spot.
FREE_PATIENT = "mslong/patient20_study2_{}.nii.gz"
FREE_SLICES = (*range(3, 17), *range(36, 43))


def held_out(data: Path, kind: str, limit: int | None = None) -> list[int]:
    """Numbers of the slices of a class in held-out blocks; with a limit, so many over the whole range."""
    with (data / "tumours_t1c" / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == kind]
    numbers = [int(row["number"]) for row in rows if int(row["block"]) % BLOCKS == HELD_OUT]
    return _spread(numbers, limit)


def free_slices(data: Path, contrast: str, limit: int | None = None) -> torch.Tensor:
    """Slices (N, 1, H, W) without a lesion, upright, each scaled to [0, 1] as an image file is."""
    scan = nibabel.load(data / FREE_PATIENT.format(contrast))
    if nibabel.aff2axcodes(scan.affine) != ("L", "P", "S"):
        raise SystemExit(f"{FREE_PATIENT.format(contrast)}: its axes are not those of the file that was looked at")
    values = scan.get_fdata(dtype=np.float32)[..., _spread(list(FREE_SLICES), limit)].transpose(2, 1, 0)
    low, high = values.min((1, 2), keepdims=True), values.max((1, 2), keepdims=True)
    return torch.from_numpy((values - low) / (high - low)).unsqueeze(1)


def _spread(items: list[int], limit: int | None) -> list[int]:
    if limit is None or limit >= len(items):
        return items
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, limit)]


def tumours(pipeline: Pipeline, data: Path, limit: int | None, kind: str) -> list[Row]:
    """Rows of one class. The network alone runs, on whole images, as in an evaluation of images."""
    load, load_mask = LoadPicture(SIDE), LoadMask(SIDE)
    numbers = held_out(data, kind, limit)
    folder = data / "tumours_t1c"
    images = torch.stack([load(folder / "image" / f"{n:04d}.jpg").mean(0, keepdim=True) for n in numbers])
    masks = [load_mask(folder / "mask" / f"{n:04d}.png")[0].numpy() > 0 for n in numbers]
    cases = [
        head_case(image[0].numpy()[..., None], mask[..., None], RING) for image, mask in zip(images, masks, strict=True)
    ]
    free = free_slices(data, "T1W", limit) if (data / FREE_PATIENT.format("T1W")).is_file() else images[:0]
    named = {"looked for": CLASSES[kind], "on": f"post-contrast T1, {len(cases)} slices"}
    rows: list[Row] = []
    for name, asked in T1C_WORDS.items():
        pipeline.ask(**asked)
        found = pipeline.slices(images)
        maps = [one[..., None] for one in found.anomaly]
        row = figures(cases, maps, calibrated=True)
        row |= {"highest in lesion": highest_in_lesion(cases, maps), "unfamiliar slices": fraction(found.unfamiliar)}
        row["slice AUROC"] = _against(found.scores, pipeline.slices(free).scores) if len(free) else None
        rows.append({**named, "map": f"model, {name}", **row})
    empty = [head_case(one[0].numpy()[..., None], np.zeros((*one.shape[1:], 1), bool), RING) for one in free]
    for name, function in BASELINES.items():
        maps, others = ([function(case.image, case.body) for case in part] for part in (cases, empty))
        row = figures(cases, maps) | {"highest in lesion": highest_in_lesion(cases, maps)}
        scores = [
            np.array([scores_of(one, case.body)[0] for one, case in zip(*part, strict=True)])
            for part in ((maps, cases), (others, empty))
        ]
        row["slice AUROC"] = _against(*scores) if len(free) else None
        rows.append({**named, "map": name, **row})
    return rows


def _against(tumour: np.ndarray, free: np.ndarray) -> float:
    truth: Any = np.repeat([True, False], [len(tumour), len(free)])
    return auroc(np.concatenate([tumour, free]), truth)
