"""Lesion finding on real scans: FLAIR of patients with multiple sclerosis, and a contrast-enhanced T1 with a tumour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import LoadImage
from scipy import ndimage

from monai_zsad.data import ScanReader, find_scans
from monai_zsad.metrics import auroc, lesion_froc, ranking_curve, slice_scores
from monai_zsad.transforms import BodyMask, LesionCandidates
from tests.benchmarks.lesion_pipeline import Pipeline, Screened

PATIENTS = ("07", "19")
WORDS: dict[str, dict[str, Any]] = {"FLAIR, brain": {"modality": "FLAIR", "anatomy": "brain"}, "generic": {}}

# The scans are brain-extracted, but resampling left ringing around: the brain is what is brighter on FLAIR than this
# fraction of its 99th percentile.
BRAIN_FRACTION = 0.05
# A slice counts if this fraction of it is brain. Its score is this quantile of the map within its brain, which a single
# bright voxel of skull or vessel does not decide, or the maximum.
SLICE_FRACTION = 0.02
SLICE_QUANTILE = 0.995
# Lesions of fewer voxels (of 1 mm3) are too few to be one.
MIN_LESION = 3

# Of dicom_vs_seg_001, found by eye: the enhancing mass beside the brain stem on the patient's left, seen from z = -55
# to z = -37 mm. There is no mask of it.
TUMOUR_RAS_MM = (-24.0, 9.0, -45.5)
TUMOUR_RADIUS_MM = 11.0
TUMOUR_WORDS: dict[str, dict[str, Any]] = {
    "post-contrast T1, brain": {"modality": "t1_contrast", "anatomy": "brain"},
    "generic": {},
}


def brain_mask(flair: np.ndarray) -> np.ndarray:
    """(X, Y, Z) of bool; see :data:`BRAIN_FRACTION`."""
    return flair > BRAIN_FRACTION * np.percentile(flair, 99)


def scaled_intensity(flair: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """First baseline: robust standard deviations above the brain's median."""
    median = np.median(flair[brain])
    return (flair - median) / (1.4826 * np.median(np.abs(flair[brain] - median)))


def equalised_z_score(flair: np.ndarray, brain: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """Second baseline: histogram equalised within the brain, smoothed there (sigma in voxels), standardised."""
    from skimage.exposure import equalize_hist

    equalised = equalize_hist(flair, nbins=1024, mask=brain) * brain
    weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(equalised, sigma) / np.maximum(weight, 1e-3)
    return (smooth - smooth[brain].mean()) / smooth[brain].std()


def figures(anomaly: np.ndarray, truth: np.ndarray, brain: np.ndarray) -> dict[str, float]:
    """All figures of one map (X, Y, Z) against the lesions."""
    voxels = ranking_curve(anomaly[brain], truth[brain])
    found = {
        "voxel AUROC": voxels.auroc(),
        "voxel AP": voxels.average_precision(),
        "best Dice": voxels.f1_max().value,
    }
    with_lesion = (truth & brain).any((0, 1))
    for name, quantile in (("slice AUROC (99.5 %)", SLICE_QUANTILE), ("slice AUROC (max)", 1.0)):
        slices, scores = slice_scores(anomaly, brain, quantile, SLICE_FRACTION)
        found[name] = auroc(scores, with_lesion[slices])
    curve = lesion_froc(anomaly, truth, brain, min_lesion=MIN_LESION)
    found |= {f"sensitivity at {n} FP": curve.at(n) for n in (1, 4, 8)}
    return found | {"lesions": curve.lesions}


def own_slice_auroc(screened: Screened, truth: np.ndarray, brain: np.ndarray) -> float:
    """Slice AUROC of the network's own slice scores."""
    slices, _ = slice_scores(screened.anomaly, brain, 1.0, SLICE_FRACTION)
    scores = np.array([screened.slice_scores.get(int(k), 0.0) for k in slices])
    return auroc(scores, (truth & brain).any((0, 1))[slices])


def flair(pipeline: Pipeline | None, data: Path) -> list[dict[str, Any]]:
    """Rows of both patients: baselines, and the model under each of :data:`WORDS` if there is one."""
    rows: list[dict[str, Any]] = []
    load = LoadImage(reader=ScanReader(), ensure_channel_first=True)
    for patient in PATIENTS:
        file = data / "ms3d" / f"patient{patient}_FLAIR.nii.gz"
        scan, lesions = load(str(file)), load(str(data / "ms3d" / f"patient{patient}_lesions.nii.gz"))
        if not np.allclose(scan.affine, lesions.affine) or scan.shape != lesions.shape:
            raise SystemExit(f"{file} and its mask of lesions do not lie on one grid")
        image, truth = scan.as_tensor()[0].numpy(), lesions.as_tensor()[0].numpy() > 0
        brain = brain_mask(image)
        for name, function in (("FLAIR intensity", scaled_intensity), ("equalised z-score", equalised_z_score)):
            rows.append({"patient": patient, "map": name, **figures(function(image, brain), truth, brain)})
        for name, words in WORDS.items() if pipeline else ():
            assert pipeline is not None
            pipeline.ask(**words)
            screened = pipeline.screen(find_scans(file)[0])
            own = own_slice_auroc(screened, truth, brain)
            found = figures(screened.anomaly, truth, brain) | {"slice AUROC (own score)": own}
            rows.append({"patient": patient, "map": f"model: {name}", **found})
    return rows


def tumour(pipeline: Pipeline, data: Path, pictures: Path) -> dict[str, Any]:
    """Top ten candidates of the series with the tumour, and pictures of the first five under the first words."""
    record = find_scans(data / "dicom_vs_seg_001")[0]
    found: dict[str, Any] = {"tumour_ras_mm": TUMOUR_RAS_MM, "tumour_radius_mm": TUMOUR_RADIUS_MM, "words": []}
    for number, (name, words) in enumerate(TUMOUR_WORDS.items()):
        pipeline.ask(**words)
        screened = pipeline.screen(record)
        rows, threshold = ranked_candidates(screened)
        rank = next((row["rank"] for row in rows if row["is tumour"]), None)
        entry = {"words": name, "threshold": threshold, "rank of tumour": rank, **within_tumour(screened)}
        found["words"].append(entry | {"candidates": rows})
        if number == 0:
            draw(screened, rows[:5], pictures)
    return found


def within_tumour(screened: Screened) -> dict[str, float]:
    """Mean of the map in the tumour's middle, and the fraction of the body that lies above: what ranks do not tell."""
    affine = screened.scan.affine.numpy()
    middle = np.linalg.solve(affine, [*TUMOUR_RAS_MM, 1.0])[:3]
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    x, y, z = ((np.arange(n) - c) * step for n, c, step in zip(screened.anomaly.shape, middle, steps, strict=True))
    away = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2)
    mean = float(screened.anomaly[away < 0.7 * TUMOUR_RADIUS_MM].mean())
    body = screened.anomaly[np.asarray(BodyMask()(screened.scan))[0] > 0]
    return {"map in tumour": mean, "body above it": float((body > mean).mean())}


def ranked_candidates(screened: Screened, count: int = 10) -> tuple[list[dict[str, Any]], str]:
    """The most suspicious candidates, by the threshold that gives so many: 0.5, else a quantile within the body."""
    anomaly = MetaTensor(screened.anomaly[None], affine=screened.scan.affine)
    _, candidates = LesionCandidates(threshold=0.5, max_candidates=count)(anomaly)
    threshold = "0.5"
    if len(candidates) < count:
        finder = LesionCandidates(threshold=0.999, low=0.998, method="quantile", max_candidates=count)
        _, candidates = finder(anomaly, BodyMask()(screened.scan))
        threshold = "99.9th percentile within the body"
    rows = []
    for found in candidates:
        away = float(np.linalg.norm(np.subtract(found.peak_ras_mm, TUMOUR_RAS_MM)))
        row: dict[str, Any] = {"rank": found.id, "peak": found.peak_score, "mm3": found.volume_mm3}
        row |= {"peak RAS mm": [round(x, 1) for x in found.peak_ras_mm], "mm from tumour": away}
        rows.append(row | {"is tumour": away <= TUMOUR_RADIUS_MM, "voxel": list(found.peak_voxel)})
    return rows, threshold


def draw(screened: Screened, rows: list[dict[str, Any]], folder: Path) -> None:
    """A picture of each candidate's slice, alone and with the map over it, as the array lies."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    scan = screened.scan.as_tensor()[0].numpy()
    top = float(np.percentile(scan, 99.7))
    for row in rows:
        x, y, z = row["voxel"]
        figure, axes = pyplot.subplots(1, 2, figsize=(14, 7))
        for axis in axes:
            axis.imshow(scan[..., z].T, cmap="gray", vmax=top)
            axis.axis("off")
        axes[1].imshow(screened.anomaly[..., z].T, cmap="hot", alpha=0.5, vmin=0, vmax=max(0.5, row["peak"]))
        axes[0].plot(x, y, "+", color="lime", markersize=18)
        axes[0].set_title(f"{row['rank']}: RAS {row['peak RAS mm']} mm, peak {row['peak']:.3f}")
        figure.savefig(folder / f"candidate_{row['rank']}.png", dpi=60, bbox_inches="tight")
        pyplot.close(figure)
