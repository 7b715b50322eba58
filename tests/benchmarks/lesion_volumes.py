"""Lesion finding on validation volumes: real anatomy with bright lesions put in.

Heads are a FLAIR scan of a patient whom the training does not see, with lesions of the training's generator, whole and
with the brain cut out. Mixtures are isotropic images like FLAIR, with small and faint balls, computed from T1 and T2
that are among the training's scans: only contrast and lesions are new there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from monai.bundle import ConfigParser
from scipy import ndimage

from monai_zsad.data import find_scans
from monai_zsad.metrics import average_precision, lesion_froc
from monai_zsad.synthesis import Anatomy, LesionSettings, anatomies, paint_lesions
from monai_zsad.synthesis.contrast import _flair_like
from tests.benchmarks.lesion_pipeline import Pipeline, training_config
from tests.benchmarks.lesion_scans import MIN_LESION, WORDS, equalised_z_score, scaled_intensity

# These scans are opened by the part ``flair`` only.
TEST_SET = "ms3d/*FLAIR*"
BASELINES = (("FLAIR intensity", scaled_intensity), ("equalised z-score", equalised_z_score))
FIGURES = ("voxel AP", "sensitivity at 4 FP")
# No seed below is one of the training's or of its validation.
HEAD_SEED, MIXTURE_SEED, BALL_SEED = 77, 78, 79
# What 1 is in the files.
STORED_MAX = 1000

HEAD = {"flair": "mslong/patient20_study2_FLAIR.nii.gz", "bright_limit": 2.3}
HEAD_LESIONS = (6, 14, 30)
PAINTED = LesionSettings(radius_mm=(1.5, 6.0), hyperintense=1.0, kinds={"focal": 2.0, "lobed": 1.0})
# The brain is where lesions' places, smoothed by so many mm within slices, are denser than this.
BRAIN_SMOOTHING_MM = 3
BRAIN_DENSITY = 0.35

# Percentiles of T1 in tissue that are grey and white matter's; of the latter, voxels within TISSUE_WIDTH count.
GREY_WHITE_T1 = (30, 80)
TISSUE_WIDTH = 0.04
INSIDE_T1 = 0.02
FLUID_T2 = 0.62
# Brightness of grey matter over that of white.
GREY_OVER_WHITE = (1.1, 1.3)
GREY_VARIATION = 0.06
SHADING = 0.05
SMALL_MM, LARGE_MM, SMALL_SHARE = (1.5, 3.0), (3.0, 6.0), 0.65
FAINT, CLEAR, FAINT_SHARE = (0.08, 0.2), (0.2, 0.35), 0.7
MIN_VOXELS = 5


class Mixture(NamedTuple):
    """Which mixture of whom, with how many balls.

    Attributes:
        patient: of ms3d.
        number: 0 has balls in white matter and little noise, 1 has them in all tissue and more noise.
        balls: how many clusters of balls.
    """

    patient: str
    number: int
    balls: int


MIXTURES = (Mixture("07", 0, 15), Mixture("07", 1, 40), Mixture("19", 0, 25), Mixture("19", 1, 10))
NOISE = (0.01, 0.02)


class Volume(NamedTuple):
    """A volume with lesions.

    Attributes:
        kind: "head", "cut out" or "mixtures".
        name: tells it from others of its kind.
        stored: (P, L, S) of int16, 0 to :data:`STORED_MAX`.
        spacing: mm along each axis.
        truth: bool, lesions.
        scored: bool, where the map counts.
        brain: bool, what the baselines see.
    """

    kind: str
    name: str
    stored: np.ndarray
    spacing: tuple[float, ...]
    truth: np.ndarray
    scored: np.ndarray
    brain: np.ndarray

    def write(self, path: Path) -> None:
        affine = np.zeros((4, 4))
        affine[0, 1], affine[1, 0], affine[2, 2] = -self.spacing[1], -self.spacing[0], self.spacing[2]
        affine[3, 3] = 1
        nibabel.save(nibabel.Nifti1Image(self.stored, affine), path)


def volumes(pipeline: Pipeline, bundle: Path, data: Path) -> list[dict[str, Any]]:
    """Rows of all volumes under each of ``WORDS`` and for both baselines, and means of each kind."""
    config = training_config(bundle, data)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for volume in (*heads(config, data), *mixtures(config, data)):
            file = Path(folder) / f"{volume.kind} {volume.name}.nii.gz"
            volume.write(file)
            for name, anomaly in _maps(pipeline, volume, file):
                rows.append({"kind": volume.kind, "volume": volume.name, "map": name, **_figures(anomaly, volume)})
    return rows + _means(rows)


def _maps(pipeline: Pipeline, volume: Volume, file: Path) -> Iterator[tuple[str, np.ndarray]]:
    image = volume.stored.astype(np.float32) / STORED_MAX
    for name, function in BASELINES:
        yield name, function(image, volume.brain)
    for name, words in WORDS.items():
        pipeline.ask(**words)
        yield f"model: {name}", pipeline.screen(find_scans(file)[0]).anomaly


def _figures(anomaly: np.ndarray, volume: Volume) -> dict[str, float]:
    scored, truth = volume.scored, volume.truth
    precision = average_precision(anomaly[scored], truth[scored])
    curve = lesion_froc(np.where(scored, anomaly, anomaly.min()), truth, scored, min_lesion=MIN_LESION)
    return dict(zip(FIGURES, (precision, curve.at(4)), strict=True)) | {"lesions": curve.lesions}


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    means: list[dict[str, Any]] = []
    for kind, name in dict.fromkeys((row["kind"], row["map"]) for row in rows):
        chosen = [row for row in rows if (row["kind"], row["map"]) == (kind, name)]
        mean = {key: float(np.mean([row[key] for row in chosen])) for key in FIGURES}
        means.append({"kind": kind, "volume": "mean", "map": name, **mean})
    return means


def prepared(config: ConfigParser, data: Path, record: Mapping[str, Any]) -> Anatomy:
    """A record's anatomy, as the training prepares it; none of the test set."""
    for value in record.values():
        file = data / str(value)
        if file.match(TEST_SET) or file.resolve().match(TEST_SET):
            raise SystemExit(f"{file} is of the test set, which is not opened here: give another scan")
    return anatomies([record], data, config.get_parsed_content("preparation"))[0]["anatomy"]


def heads(config: ConfigParser, data: Path) -> list[Volume]:
    """The scan with each number of lesions: whole heads, then brains."""
    anatomy = prepared(config, data, HEAD)
    image, *masks = (part.numpy() for part in anatomy.volume)
    body, places, doubtful = (mask > 0.5 for mask in masks)
    sigma = (BRAIN_SMOOTHING_MM / anatomy.spacing[0], BRAIN_SMOOTHING_MM / anatomy.spacing[1], 0)
    brain = body & (ndimage.gaussian_filter(places.astype(np.float32), sigma) > BRAIN_DENSITY)
    top = np.percentile(image[brain], 99.5)
    centers = (places & ~doubtful & brain).astype(np.float32)
    whole, cut_out = [], []
    for count in HEAD_LESIONS:
        rng = np.random.default_rng([HEAD_SEED, count])
        painted = paint_lesions(image, anatomy.spacing, brain, count, rng, PAINTED, places=centers)
        truth = painted.labels > 0
        masks = [truth, brain & ~(doubtful & ~truth), brain]
        name = f"{count} lesions"
        whole.append(Volume("head", name, _stored(painted.image.clip(0, 1)), anatomy.spacing, *masks))
        alone = (painted.image / top).clip(0, 1) * brain
        cut_out.append(Volume("cut out", name, _stored(alone), anatomy.spacing, *masks))
    return whole + cut_out


def _stored(image: np.ndarray) -> np.ndarray:
    return np.round(image * STORED_MAX).astype(np.int16)


def mixtures(config: ConfigParser, data: Path) -> Iterator[Volume]:
    """Each of :data:`MIXTURES`."""
    anatomy_of: dict[str, Anatomy] = {}
    for wanted in MIXTURES:
        if wanted.patient not in anatomy_of:
            names = {"t1": "T1", "t2": "T2", "lesions": "lesions"}
            files = {key: f"ms3d/patient{wanted.patient}_{name}.nii.gz" for key, name in names.items()}
            anatomy_of[wanted.patient] = prepared(config, data, files | {"bare": True, "depth_mm": 4})
        yield _mixture(anatomy_of[wanted.patient], wanted)


def _mixture(anatomy: Anatomy, wanted: Mixture) -> Volume:
    t1, t2, *masks = (part.numpy() for part in anatomy.volume)
    body, places, doubtful = (mask > 0.5 for mask in masks)
    rng = np.random.default_rng([BALL_SEED, int(wanted.patient), wanted.number])
    image = vary_grey(flair_like(t1, t2, wanted.number) * body, t1, t2, rng)
    tissue = body & (t2 < FLUID_T2) & (image > 0.1)
    white = tissue & (ndimage.gaussian_filter(t1, 1) > np.percentile(t1[tissue], 55))
    inner = ndimage.binary_erosion(white, iterations=1) if wanted.number == 0 else tissue
    centers = inner & places & ~ndimage.binary_dilation(doubtful, iterations=3)
    scan, truth = add_clusters(image, anatomy.spacing, centers, tissue & ~doubtful, wanted.balls, rng)
    scan = _acquired(scan, NOISE[wanted.number], rng) * body
    name = f"patient {wanted.patient}, mixture {wanted.number}, {wanted.balls} balls"
    scored = body & ~doubtful
    return Volume("mixtures", name, _stored(scan), anatomy.spacing, truth & scored, scored, body)


def flair_like(t1: np.ndarray, t2: np.ndarray, number: int, tries: int = 1000) -> np.ndarray:
    """The mixture of this number among those whose grey matter is as bright as :data:`GREY_OVER_WHITE` says."""
    inside = t1 > INSIDE_T1
    tissue = inside & ~(t2 > FLUID_T2)
    grey, white = (tissue & (np.abs(t1 - x) < TISSUE_WIDTH) for x in np.percentile(t1[tissue], GREY_WHITE_T1))
    found = 0
    for draw in range(tries):
        rng = np.random.default_rng([MIXTURE_SEED, draw])
        image = _flair_like(t1.clip(0, 1), t2.clip(0, 1), rng) * inside
        ratio = float(np.median(image[grey]) / np.median(image[white]))
        if GREY_OVER_WHITE[0] < ratio < GREY_OVER_WHITE[1]:
            if found == number:
                return image
            found += 1
    raise SystemExit(f"no mixture {number} in {tries} tries")


def vary_grey(image: np.ndarray, t1: np.ndarray, t2: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey matter brighter here than there, as on a scan; by other waves than the training's."""
    inside = (t1 > INSIDE_T1) & (t2 < FLUID_T2)
    level = np.percentile(image[inside], 65)
    member = np.exp(-(((image - level) / 0.12) ** 2)) * inside
    field = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), 12)
    return image + GREY_VARIATION * np.maximum(field / field.std(), -1) * member


def add_clusters(
    image: np.ndarray,
    spacing: tuple[float, ...],
    centers: np.ndarray,
    allowed: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The image with bright clusters of balls, most of them small and faint, and where they are; the grain stays."""
    changed = image.copy()
    truth = np.zeros(image.shape, dtype=bool)
    places, steps, done = np.argwhere(centers), np.array(spacing), 0
    while done < count:
        center = places[rng.integers(len(places))]
        radius = float(np.exp(rng.uniform(*np.log(SMALL_MM if rng.uniform() < SMALL_SHARE else LARGE_MM))))
        brighter = float(rng.uniform(*(FAINT if rng.uniform() < FAINT_SHARE else CLEAR)))
        reach = np.ceil((2 * radius + 4) / steps).astype(int)
        box = tuple(slice(max(c - r, 0), min(c + r + 1, n)) for c, r, n in zip(center, reach, image.shape, strict=True))
        if truth[box].any() or not allowed[box].any():
            continue
        offsets = [(np.arange(b.start, b.stop) - c) * s for b, c, s in zip(box, center, steps, strict=True)]
        share = _cluster(offsets, radius, rng) * allowed[box]
        if (share > 0.5).sum() < MIN_VOXELS:
            continue
        part = changed[box]
        level = np.median(part[allowed[box] & (share > 0.05)])
        changed[box] = part + share * (level + brighter - ndimage.gaussian_filter(part, 1.0 / steps))
        truth[box] |= share > 0.5
        done += 1
    return changed, truth


def _cluster(offsets: list[np.ndarray], radius: float, rng: np.random.Generator) -> np.ndarray:
    """Share of each voxel in one to three balls; offsets are mm from the middle along each axis."""
    grid = np.stack(np.meshgrid(*offsets, indexing="ij"))
    balls = 1 if radius < 2 else int(rng.integers(1, 4))
    size = radius if balls == 1 else 0.75 * radius
    share = np.zeros(grid.shape[1:], dtype=np.float32)
    for number in range(balls):
        middle = rng.normal(0, 0.5 * radius, 3) if number else np.zeros(3)
        distance = np.sqrt(sum((axis - place) ** 2 for axis, place in zip(grid, middle, strict=True)))
        share = np.maximum(share, 1 / (1 + np.exp((distance - size) / 0.35)).astype(np.float32))
    return share


def _acquired(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """With shading and noise, as of a scanner."""
    lines = [np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape]
    slope = sum(axis * rng.uniform(-1, 1) for axis in np.meshgrid(*lines, indexing="ij", sparse=True))
    noise = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), 0.5) * 2.2
    return (image * (1 + SHADING * slope) + level * noise).clip(0, 1)
