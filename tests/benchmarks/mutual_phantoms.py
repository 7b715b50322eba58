"""Head phantoms that are compared with others: how many scans it takes, and how many of them may be abnormal."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data import find_scans
from monai_zsad.metrics import auroc
from monai_zsad.metrics.conformal import conformal_p_values
from monai_zsad.mutual import References
from monai_zsad.synthesis import phantom_head
from monai_zsad.synthesis.phantoms.files import write_phantom
from tests.benchmarks.lesion_figures import Row, scaled_intensity
from tests.benchmarks.lesion_pipeline import Pipeline
from tests.benchmarks.mutual_pipeline import FINE, Cohort

COUNTS, SHARES = (5, 20, 50), (0.0, 0.2, 0.5)
# Scans that are scored: so many without, and as many with a lesion.
TESTED = 10
# Tokens along each side: the phantoms have pixels of 3.6 mm.
SIDE = 16
SHAPE, SPACING, CONTRAST = (64, 64, 8), (3.6, 3.6, 18.0), "flair"
# No seed here is one of the training's.
SEED = 7000
# A lesion that scans have in common lies at one place.
CENTER_MM, RADIUS_MM, GAIN = (-28.0, 18.0, 12.0), 9.0, 0.35
ALPHA, COUNT, SHARE = 0.1, 20, 0.1


class Phantoms:
    """Files of phantoms, made when they are needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def scan(self, seed: int, lesion: str = "") -> Mapping[str, Any]:
        """The record of a phantom with a lesion at a ``"random"`` or at the ``"same"`` place, or without one."""
        file = self.folder / f"head{seed}{lesion}_{CONTRAST}.nii.gz"
        if not file.is_file():
            phantom = phantom_head(SHAPE, SPACING, SEED + seed, lesion == "random", CONTRAST)
            if lesion == "same":
                phantom = phantom._replace(image=_brighter(phantom.image, phantom.affine))
            write_phantom(phantom, file)
        return find_scans(file)[0]


def _brighter(image: np.ndarray, affine: np.ndarray) -> np.ndarray:
    places = np.moveaxis(np.indices(image.shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    inside = np.linalg.norm(places - CENTER_MM, axis=-1) < RADIUS_MM
    return np.where(inside, image + GAIN * np.percentile(image, 99), image).astype(image.dtype)


def common(cohort: Cohort, data: Path, counts: tuple[int, ...] = COUNTS) -> list[Row]:
    """Volume AUROC by the number of unlabelled scans to compare with, and the share of them that is abnormal."""
    del data
    rows: list[Row] = []
    before = cohort.settings
    cohort.set({"side": SIDE})
    cohort.use(FINE)
    with tempfile.TemporaryDirectory() as folder:
        phantoms = Phantoms(Path(folder))
        for lesion, place in (("random", "at different places"), ("same", "at the same place")):
            tested = [(number, phantoms.scan(number, kind)) for number in range(TESTED) for kind in ("", lesion)]
            for count in counts:
                row: Row = {"lesions": place, "scans to compare with": count}
                for share in SHARES:
                    with_lesion = round(share * count)
                    others = [phantoms.scan(100 + n, lesion if n < with_lesion else "") for n in range(count)]
                    scores = [cohort.compare(record, others).volume_score for _, record in tested]
                    row[f"AUROC, {share:.0%} abnormal"] = auroc(np.array(scores), np.arange(len(tested)) % 2 == 1)
                rows.append(row)
            rows.append({"lesions": place, **_alone(cohort, [record for _, record in tested])})
        cohort.forget()
    cohort.set(before._asdict())
    return rows


def _alone(cohort: Cohort, tested: list[Mapping[str, Any]]) -> Row:
    """Volume AUROC of the included model alone, and of intensity: the 99.5 % quantile in the body."""
    prompts = Pipeline(cohort.included_bundle)
    truth = np.arange(len(tested)) % 2 == 1
    of_prompts, of_intensity = [], []
    for record in tested:
        screened = prompts.screen(record)
        of_prompts.append(max(screened.slice_scores.values()))
        image = screened.scan.numpy()[0]
        body = image > 0.05 * np.percentile(image, 99)
        of_intensity.append(float(np.quantile(scaled_intensity(image, body)[body], 0.995)))
    return {
        "prompts alone": auroc(np.array(of_prompts), truth),
        "intensity": auroc(np.array(of_intensity), truth),
    }


def references(cohort: Cohort, data: Path) -> list[Row]:
    """Normal phantoms as the reference: all tokens or a coreset; p-values by leaving each out of its own comparison."""
    del data
    before = cohort.settings
    cohort.set({"side": SIDE})
    cohort.use(FINE)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        phantoms = Phantoms(Path(folder))
        normal = [phantoms.scan(100 + n) for n in range(COUNT)]
        tested = [phantoms.scan(number, kind) for number in range(TESTED) for kind in ("", "random")]
        truth = np.arange(len(tested)) % 2 == 1
        stored = [cohort.stored(record) for record in normal]
        for share in (1.0, SHARE):
            made_from = {"features": "", "settings": {}, "scans": [], "share": share}
            bank = References.write(Path(folder) / f"{share}.safetensors", stored, cohort.inferer.aggregated, made_from)
            own = [
                cohort.compare(record, given=bank.compared(scan.kind, scan.input, cohort.inferer.loaded)).volume_score
                for record, scan in zip(normal, stored, strict=True)
            ]
            given = bank.compared(stored[0].kind, load=cohort.inferer.loaded)
            scores = np.array([cohort.compare(record, given=given).volume_score for record in tested])
            significant = conformal_p_values(np.array(own), scores) <= ALPHA
            rows.append(
                {
                    "normal scans": COUNT,
                    "share of tokens": share,
                    "volume AUROC": auroc(scores, truth),
                    f"normal scans with p <= {ALPHA}": float(significant[~truth].mean()),
                    f"scans with a lesion with p <= {ALPHA}": float(significant[truth].mean()),
                }
            )
        cohort.forget()
    cohort.set(before._asdict())
    return rows
