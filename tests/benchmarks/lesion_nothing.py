"""What is said where there is nothing to find, and what words change."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, LoadImaged
from scipy import ndimage

from monai_zsad.data import ScanReader, find_scans
from monai_zsad.metrics import auroc, average_precision
from monai_zsad.synthesis import PrepareAnatomyd, SlabSettings, phantom_abdomen, phantom_head, write_dicom_series
from monai_zsad.synthesis.slabs import cut_slab
from monai_zsad.synthesis.validation_slices import add_balls
from monai_zsad.transforms import ScanIntensityd, UprightOrientationd
from tests.benchmarks.lesion_figures import Row, fraction, has_candidate
from tests.benchmarks.lesion_pipeline import GENERAL, Pipeline, Screened
from tests.benchmarks.lesion_slices import FREE_PATIENT, FREE_SLICES

PHANTOMS = (
    *(("head", contrast) for contrast in ("ct", "t1", "t2", "flair")),
    *(("abdomen", contrast) for contrast in ("ct", "t1", "t2")),
)
# No seed here is one of the training's or of its validation.
SEED = 4000
NOISE_SLICES = 50
WORDS: dict[str, dict[str, Any]] = {
    "hyperintense lesion": {"states": ["hyperintense_lesion"], "anatomy": "brain"},
    "hypointense lesion": {"states": ["hypointense_lesion"], "anatomy": "brain"},
    "general": {"states": ["organ"], "anatomy": "brain"},
}
SLABS = SlabSettings(planes=(("axial", 1.0),), field_mm=(1.05, 1.15), tilt_degrees=0, turn_degrees=5)
WORD_SLICES = 24
MIN_PIXELS = 10


def nothing(pipeline: Pipeline, data: Path, limit: int | None) -> list[Row]:
    """Fraction of slices with a candidate, and of unfamiliar slices, under general prompts."""
    pipeline.ask(**GENERAL)
    rows = []
    for contrast in ("FLAIR", "T1W"):
        screened = pipeline.screen(find_scans(data / FREE_PATIENT.format(contrast))[0])
        name = f"{contrast.removesuffix('W')} of a patient where there is no lesion"
        rows.append(_quiet(pipeline, name, screened, FREE_SLICES))
    with tempfile.TemporaryDirectory() as folder:
        for number, (anatomy, contrast) in enumerate(PHANTOMS):
            settings: dict[str, Any] = {"seed": SEED + number, "contrast": contrast}
            settings |= {"shape": (64, 64, limit), "spacing": (4.0, 4.0, 160 / limit)} if limit else {}
            made = (
                phantom_head(lesion=False, **settings)
                if anatomy == "head"
                else phantom_abdomen(lesion=None, **settings)
            )
            series = write_dicom_series(made, Path(folder) / f"{anatomy}_{contrast}")
            named = f"phantom of {'a head' if anatomy == 'head' else 'an abdomen'}, {contrast.upper()}"
            rows.append(_quiet(pipeline, named, pipeline.screen(find_scans(series)[0])))
    for name, sigma in (("noise", 0.0), ("smooth noise", 6.0)):
        found = pipeline.slices(noise(sigma, limit or NOISE_SLICES))
        alarms = np.array([has_candidate(one, pipeline.min_volume_mm3) for one in found.anomaly])
        rows.append(_row(name, alarms, found.unfamiliar))
    return rows


def _quiet(pipeline: Pipeline, name: str, screened: Screened, slices: tuple[int, ...] | None = None) -> Row:
    """The row of a scan. A slice has a candidate if its share of it is as large as the pipeline's smallest one."""
    least = pipeline.min_volume_mm3 / float(np.prod(screened.scan.pixdim.numpy()))
    chosen = [k for k in screened.slice_scores if slices is None or k in slices]
    alarms = np.array([has_candidate(screened.anomaly[..., k], least) for k in chosen])
    return _row(name, alarms, np.array([screened.unfamiliar[k] for k in chosen if k in screened.unfamiliar]))


def _row(name: str, alarms: np.ndarray, unfamiliar: np.ndarray) -> Row:
    return {
        "looked for": "nothing",
        "on": f"{name}, {len(alarms)} slices",
        "map": "model, general",
        "slices with a candidate": fraction(alarms),
        "unfamiliar slices": fraction(unfamiliar),
    }


def noise(sigma: float, count: int, size: int = 192) -> torch.Tensor:
    """Images (N, 3, S, S) of noise in [0, 1]; sigma in pixels."""
    rng = np.random.default_rng(SEED)
    drawn = ndimage.gaussian_filter(rng.standard_normal((count, 3, size, size), dtype=np.float32), (0, 0, sigma, sigma))
    return torch.from_numpy((0.5 + 0.2 * drawn / drawn.std()).clip(0, 1))


def words(pipeline: Pipeline, data: Path, limit: int | None) -> list[Row]:
    """Mean average precision of bright and of dark lesions under each of :data:`WORDS`.

    Lesions are balls in FLAIR and T1 of a patient whom the training does not see. Those of one polarity are ranked
    against what is normal; the others count for nothing. ``bright over dark`` is the AUROC of bright lesions' pixels
    against dark ones': 1 if the words find bright lesions only, 0.5 if they do not tell them apart.
    """
    prepare = Compose(
        [
            LoadImaged("image", reader=ScanReader(), ensure_channel_first=True),
            UprightOrientationd("image", plane="axial"),
            ScanIntensityd("image", window="percentile"),
            PrepareAnatomyd("image", depth_mm=14),
        ]
    )
    files = [data / FREE_PATIENT.format(contrast) for contrast in ("FLAIR", "T1W")]
    limits = (2.3, None)  # on FLAIR, unlabelled bright spots count for nothing
    anatomies = [
        prepare({"image": str(file), "bright_limit": bright})["anatomy"]
        for file, bright in zip(files, limits, strict=True)
    ]
    drawn = [polar_slice(anatomies[n % len(files)], n) for n in range(limit or WORD_SLICES)]
    images = torch.from_numpy(np.stack([np.moveaxis(image, -1, 0) for image, *_ in drawn]))
    rows = []
    for name, asked in WORDS.items():
        pipeline.ask(**asked)
        found = [
            (_precision(one, bright, normal), _precision(one, dark, normal), _apart(one, bright, dark))
            for one, (_, bright, dark, normal) in zip(pipeline.slices(images).anomaly, drawn, strict=True)
        ]
        means = dict(
            zip(("AP of bright", "AP of dark", "bright over dark"), np.mean(found, axis=0).tolist(), strict=True)
        )
        rows.append({"prompts": name, **means, "slices": len(drawn)})
    return rows


def polar_slice(anatomy: Any, seed: int, tries: int = 50) -> tuple[np.ndarray, ...]:
    """A slice (S, S, 3) with lesions of both polarities, and masks (S, S) of bright, of dark and of normal tissue."""
    for attempt in range(tries):
        rng = np.random.default_rng([SEED, seed, attempt])
        slab = cut_slab(anatomy.volume, 3, anatomy.spacing, rng, SLABS)
        before = slab.images[0]
        image, label = add_balls(before, slab.masks, slab.spacing, rng)
        regions, count = ndimage.label(label)
        change = ndimage.mean((image - before)[..., 1], regions, range(1, count + 1)) if count else []
        signs = np.concatenate([[0.0], np.asarray(change)])[regions]
        bright, dark = label & (signs > 0.05), label & (signs < -0.05)
        if min(bright.sum(), dark.sum()) >= MIN_PIXELS:
            body, _, doubtful = slab.masks[..., 1].astype(bool)
            return image, bright, dark, body & ~doubtful & ~label
    raise SystemExit(f"no slice with bright and dark lesions in {tries} tries: seed {seed}")


def _precision(anomaly: np.ndarray, lesion: np.ndarray, normal: np.ndarray) -> float:
    seen = lesion | normal
    return average_precision(anomaly[seen], lesion[seen])


def _apart(anomaly: np.ndarray, bright: np.ndarray, dark: np.ndarray) -> float:
    both = bright | dark
    return auroc(anomaly[both], bright[both])
