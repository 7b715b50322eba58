"""Lesion finding on synthetic data: what words change, and what is said of scans without lesions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage

from monai_zsad.data import find_scans
from monai_zsad.metrics import auroc, average_precision
from monai_zsad.synthesis import (
    Anatomy,
    LesionSettings,
    SlabSettings,
    paint_lesions,
    phantom_abdomen,
    phantom_head,
    write_dicom_series,
)
from monai_zsad.synthesis.slabs import Slab, cut_slab
from monai_zsad.synthesis.validation_slices import add_balls
from monai_zsad.transforms import BodyMask
from tests.benchmarks.lesion_pipeline import Pipeline, training_config

WORDS: dict[str, dict[str, Any]] = {
    "hyperintense lesion": {"states": ["hyperintense_lesion"], "anatomy": "brain"},
    "hypointense lesion": {"states": ["hypointense_lesion"], "anatomy": "brain"},
    "generic": {"states": ["organ"], "anatomy": "brain"},
}
# No seed below is one of the training's or of its validation.
SEED = 4000
SLABS = SlabSettings(planes=(("axial", 1.0),), field_mm=(1.05, 1.15), tilt_degrees=0, turn_degrees=5)
PAINTED = LesionSettings(kinds={"focal": 1.0, "lobed": 1.0}, hyperintense=0.5, radius_mm=(2.5, 9.0))
MIN_PIXELS = 10
QUIET: tuple[tuple[str, str], ...] = (
    *(("head", contrast) for contrast in ("flair", "t1", "t2", "ct")),
    *(("abdomen", contrast) for contrast in ("ct", "t1", "t2")),
)
SENSITIVITIES = (0.5, 0.8)


class PolarSlice(NamedTuple):
    """A slice with bright and dark lesions.

    Attributes:
        image: (3, S, S), the slice and its neighbours.
        bright: (S, S) of bool.
        dark: (S, S) of bool.
        normal: (S, S) of bool: body without a lesion, painted or suspected.
    """

    image: torch.Tensor
    bright: np.ndarray
    dark: np.ndarray
    normal: np.ndarray


def polar_slice(anatomy: Anatomy, size: int, generator: str, seed: tuple[int, ...], tries: int = 50) -> PolarSlice:
    """A slice in which lesions of both polarities are seen, drawn again until they are."""
    for attempt in range(tries):
        rng = np.random.default_rng([*seed, attempt])
        slab = cut_slab(anatomy.volume, 3, anatomy.spacing, rng, replace(SLABS, size=size))
        image, bright, dark = (_balls if generator == "balls" else _painted)(slab, rng)
        if min(bright.sum(), dark.sum()) >= MIN_PIXELS:
            body, _, doubtful = slab.masks[..., 1]
            pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))
            return PolarSlice(pixels, bright, dark, body & ~doubtful & ~bright & ~dark)
    raise SystemExit(f"no slice with bright and dark lesions in {tries} tries: seed {seed}")


def _balls(slab: Slab, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    before = slab.images[0]
    image, label = add_balls(before, slab.masks, slab.spacing, rng)
    regions, count = ndimage.label(label)
    change = ndimage.mean((image - before)[..., 1], regions, range(1, count + 1)) if count else np.zeros(0)
    signs = np.concatenate([[0.0], np.asarray(change)])[regions]
    return image, label & (signs > 0.05), label & (signs < -0.05)


def _painted(slab: Slab, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = slab.images[0]
    body, places, doubtful = slab.masks
    centers = (places & ~doubtful).astype(np.float32)
    centers[..., [0, 2]] = 0
    painted = paint_lesions(image, slab.spacing, body & (image > 0.03), 4, rng, PAINTED, places=centers)
    bright, dark = np.zeros((2, *image.shape[:2]), dtype=bool)
    for number, lesion in enumerate(painted.lesions, start=1):
        (bright if lesion.contrast > 0 else dark)[painted.labels[..., 1] == number] = True
    return painted.image.clip(0, 1), bright, dark


def words(pipeline: Pipeline, bundle: Path, data: Path, count: int = 24) -> list[dict[str, Any]]:
    """Mean average precision of bright and of dark lesions under each of :data:`WORDS`.

    Lesions of one polarity are ranked against what is normal; those of the other count for nothing. ``bright over
    dark`` is the AUROC of bright lesions' pixels against dark ones': 1 if words find bright lesions only, 0.5 if they
    do not tell them apart. ``count`` slices of each kind of anatomy and each generator of lesions.
    """
    config = training_config(bundle, data, seed=SEED, validation_phantoms=2)
    volumes = config.get_parsed_content("validation_volumes")
    scans = len(config["validation_records"])
    rows: list[dict[str, Any]] = []
    for kind, chosen in (("scans", volumes[:scans]), ("phantoms", volumes[scans:])):
        for generator in ("balls", "painted"):
            slices = [
                polar_slice(chosen[n % len(chosen)]["anatomy"], int(config["image_size"]), generator, (SEED, n))
                for n in range(count)
            ]
            batch = torch.stack([item.image for item in slices])
            for name, asked in WORDS.items():
                pipeline.ask(**asked)
                maps = pipeline.maps(batch)
                found = [_polar_figures(anomaly, item) for anomaly, item in zip(maps, slices, strict=True)]
                means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
                rows.append({"anatomy": kind, "lesions": generator, "words": name, **means, "slices": count})
    return rows


def _polar_figures(anomaly: np.ndarray, item: PolarSlice) -> dict[str, float]:
    def precision(lesion: np.ndarray) -> float:
        seen = lesion | item.normal
        return average_precision(anomaly[seen], lesion[seen])

    both = item.bright | item.dark
    apart = auroc(anomaly[both], item.bright[both])
    return {"AP bright": precision(item.bright), "AP dark": precision(item.dark), "bright over dark": apart}


def validation_thresholds(pipeline: Pipeline, bundle: Path, data: Path) -> dict[str, Any]:
    """Thresholds at which :data:`SENSITIVITIES` of the validation lesions hold a pixel above, under generic words.

    Also the rate of validation slices without a painted lesion that have a region above each. Their patients do have
    lesions, so that is more than the false rate.
    """
    slices = training_config(bundle, data).get_parsed_content("validate#dataset")
    pipeline.ask()
    items = [slices[n] for n in range(len(slices))]
    maps = pipeline.maps(torch.stack([item["image"] for item in items]))
    peaks, empty = [], []
    for anomaly, item in zip(maps, items, strict=True):
        regions, count = ndimage.label(item["label"][0].numpy() > 0)
        sizes = np.bincount(regions.ravel())
        peaks += [float(anomaly[regions == n].max()) for n in range(1, count + 1) if sizes[n] >= MIN_PIXELS]
        if not count:
            empty.append(anomaly)
    found = {}
    for wanted in SENSITIVITIES:
        threshold = float(np.quantile(peaks, 1 - wanted, method="lower"))
        rate = float(np.mean([_regions(anomaly, threshold) > 0 for anomaly in empty]))
        found[f"{wanted:.0%}"] = {"threshold": threshold, "validation slices without lesion above": rate}
    return {"lesions": len(peaks), "lesion-free slices": len(empty), "sensitivities": found}


def _regions(anomaly: np.ndarray, threshold: float) -> int:
    """Connected regions of a slice that reach the threshold, without specks."""
    regions, count = ndimage.label(anomaly >= threshold, np.ones((3, 3)))
    return int((np.bincount(regions.ravel(), minlength=count + 1)[1:] >= MIN_PIXELS).sum())


def quiet(pipeline: Pipeline, bundle: Path, data: Path, shape: tuple[int, int, int] | None = None) -> dict[str, Any]:
    """The map on phantoms without lesions, under generic words and under those of their anatomy and modality.

    ``slices with a region`` is the fraction of slices of the body that have a region of at least 10 pixels at the
    threshold of :func:`validation_thresholds`: of generic words only, as the threshold is theirs.
    """
    validated = validation_thresholds(pipeline, bundle, data)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (anatomy, contrast) in enumerate(QUIET):
            size: dict[str, Any] = {} if shape is None else {"shape": shape, "spacing": (4.0, 4.0, 8.0)}
            seed = SEED + number
            phantom = (
                phantom_head(seed=seed, lesion=False, contrast=contrast, **size)
                if anatomy == "head"
                else phantom_abdomen(seed=seed, lesion=None, contrast=contrast, **size)
            )
            series = Path(folder) / f"{anatomy}_{contrast}"
            write_dicom_series(phantom, series)
            record = find_scans(series)[0]
            place = "brain" if anatomy == "head" else "abdomen"
            for name, asked in (("generic", {}), ("its own", {"anatomy": place, "modality": contrast})):
                pipeline.ask(**asked)
                thresholds = validated["sensitivities"] if name == "generic" else {}
                rows.append({"phantom": f"{anatomy} {contrast}", "words": name, **_quiet(pipeline, record, thresholds)})
    generic = [row for row in rows if row["words"] == "generic"]
    mean = {key: float(np.mean([row[key] for row in generic])) for key in generic[0] if key not in ("phantom", "words")}
    return {"validation": validated, "phantoms": rows, "mean of generic": mean}


def _quiet(pipeline: Pipeline, record: Mapping[str, Any], thresholds: Mapping[str, Any]) -> dict[str, float]:
    screened = pipeline.screen(record)
    body = np.asarray(BodyMask()(screened.scan))[0] > 0
    inside = np.where(body, screened.anomaly, 0)
    slices = [inside[..., k] for k in np.flatnonzero(body.any((0, 1)))]
    values = screened.anomaly[body]
    found = {"mean": float(values.mean()), "99.9 %": float(np.percentile(values, 99.9)), "max": float(values.max())}
    found["slices above 0.5"] = float(np.mean([part.max() > 0.5 for part in slices]))
    for name, entry in thresholds.items():
        counts = [_regions(part, entry["threshold"]) for part in slices]
        found[f"slices with a region at {name}"] = float(np.mean([n > 0 for n in counts]))
    return found
