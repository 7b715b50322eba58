"""Calibration of a trained network on validation data: what a score of 0.5 means, and which slices are unfamiliar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from skimage.morphology import area_opening

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import auroc, expected_calibration_error
from monai_zsad.networks.screening_clip import ScreeningCLIP

__all__ = ["SliceValues", "best_threshold", "fit_calibration", "platt_scaling", "slice_values"]

Images = np.ndarray | torch.Tensor


class SliceValues(NamedTuple):
    """Values of slices before calibration.

    Attributes:
        score: (N,), the mean of the highest logits of each map.
        peak: (N,), the highest logit that ``least_pixels`` connected pixels of the map exceed or reach.
        context: (N, C), features of the whole slices.
    """

    score: np.ndarray
    peak: np.ndarray
    context: np.ndarray


def fit_calibration(
    network: ScreeningCLIP,
    *,
    tumours: tuple[Images, np.ndarray],
    normal: Images,
    known: Images,
    alarms: float = 0.1,
    least_pixels: int = 10,
    quantile: float = 0.99,
    axes: int = 32,
    batch_size: int = 16,
) -> dict[str, Any]:
    """Fit the buffers ``calibration`` and ``known_*`` of a trained network on slices that it was not trained on.

    - Score: logistic regression on the logit of the score (Platt scaling). Both classes count equally, since the share
      of abnormal slices differs between scans. Then the offset is moved so that 0.5 is the threshold of the best
      Youden index. The expected calibration error is computed with as many normal as abnormal slices. Its value after
      calibration is cross-validated: each block of tumour slices, and a part of the normal slices, gets a calibration
      that was fitted to the others.
    - Map: its logits are moved so that 0.5 is exceeded in ``alarms`` of the normal slices. Regions below
      ``least_pixels`` do not count, as small candidates are dropped.
    - Unfamiliar slices: a normal distribution is fitted to the context features of the ``known`` slices
      (probabilistic PCA: the first ``axes`` principal axes have their own variance, all others share one). The distance
      of a slice is the Mahalanobis distance. The limit is the ``quantile`` of those of the validation slices.

    All slices have shape (N, 3, S, S), or (N, S, S) for slices without neighbours; uint8, or values in [0, 1].

    Args:
        network: trained network with text anchors. Its buffers are changed in place.
        tumours: slices with a lesion, and the block (N,) of each. No block may be in the training data.
        normal: slices without a lesion. Slices of one patient must follow each other.
        known: slices of the training data, for the distance.
        alarms: fraction of the normal slices in which the map may exceed 0.5.
        least_pixels: smallest region that counts, in pixels of the map at half the resolution.
        quantile: fraction of the validation slices that are familiar.
        axes: number of principal axes with a variance of their own.
        batch_size: slices in a forward pass.

    Returns:
        What was fitted and measured, in plain types for JSON.

    Raises:
        ConfigurationError: there are fewer than two blocks or too few slices.

    References:
        Platt, "Probabilistic Outputs for Support Vector Machines", 1999; Youden, "Index for rating diagnostic tests",
        Cancer 1950; Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", NeurIPS 2018;
        Tipping and Bishop, "Probabilistic Principal Component Analysis", J. R. Stat. Soc. B 1999.
    """
    images, blocks = tumours[0], np.asarray(tumours[1])
    folds = np.unique(blocks)
    if len(blocks) != len(images) or len(folds) < 2 or len(normal) < len(folds) or len(known) < 2:
        raise ConfigurationError(
            f"tumours: {len(images)} slices in {len(folds)} blocks, normal: {len(normal)}, known: {len(known)} slices; "
            "give the block of each tumour slice, two blocks or more, a normal slice for each block, two known slices"
        )
    found, free, seen = (slice_values(network, part, least_pixels, batch_size) for part in (images, normal, known))

    scale, offset = _scaling(found.score, free.score)
    parts = np.repeat(folds, [len(part) for part in np.array_split(np.arange(len(normal)), len(folds))])
    after = [np.empty(len(images)), np.empty(len(normal))]
    for fold in folds:
        a, b = _scaling(found.score[blocks != fold], free.score[parts != fold])
        for values, scores, place in zip(
            after, (found.score, free.score), (blocks == fold, parts == fold), strict=True
        ):
            values[place] = expit(a * scores[place] + b)
    limit = float(np.quantile(free.peak, 1 - alarms))
    mean, basis = _whitening(seen.context, axes)
    distances = np.linalg.norm((np.concatenate([found.context, free.context]) - mean) @ basis, axis=1)
    known_limit = float(np.quantile(distances, quantile))
    with torch.no_grad():
        network.calibration.copy_(torch.tensor([[1.0, -limit], [scale, offset]]))
        network.known_mean.copy_(torch.from_numpy(mean))
        network.known_basis.copy_(torch.from_numpy(basis))
        network.known_limit.fill_(known_limit)

    labels = np.r_[np.ones(len(images)), np.zeros(len(normal))]
    return {
        "slices": {"tumour": len(images), "normal": len(normal), "known": len(known)},
        "blocks": folds.tolist(),
        "score": {
            "scale": float(scale),
            "offset": float(offset),
            "auroc": float(auroc(np.r_[found.score, free.score], labels)),
            "sensitivity": float((scale * found.score + offset > 0).mean()),
            "specificity": float((scale * free.score + offset <= 0).mean()),
            "calibration_error_before": _balanced_error(expit(found.score), expit(free.score)),
            "calibration_error_after": _balanced_error(*after),
        },
        "map": {
            "offset": -limit,
            "normal_with_candidate": float((free.peak > limit).mean()),
            "tumour_with_candidate": float((found.peak > limit).mean()),
        },
        "known": {"limit": known_limit, "familiar": float((distances <= known_limit).mean())},
    }


@torch.no_grad()
def slice_values(network: ScreeningCLIP, images: Images, least_pixels: int = 10, batch_size: int = 16) -> SliceValues:
    """Score, peak and context of slices before calibration.

    Args:
        network: network with text anchors.
        images: see :func:`fit_calibration`.
        least_pixels: smallest region that counts for the peak.
        batch_size: slices in a forward pass.
    """
    training = network.training
    network.eval()
    device = network.calibration.device
    scores, peaks, contexts = [], [], []
    for batch in _batches(images, batch_size):
        details = network.predict(network.normalize(batch.to(device))).details
        logits = details["logits"].float().cpu()
        flat = logits.flatten(1)
        scores.append(flat.topk(max(1, round(network.score_share * flat.shape[1])), dim=1).values.mean(1))
        peaks += [float(area_opening(one, least_pixels).max()) for one in logits.numpy()]
        contexts.append(details["context"].float().cpu())
    network.train(training)
    return SliceValues(torch.cat(scores).double().numpy(), np.array(peaks), torch.cat(contexts).double().numpy())


def platt_scaling(abnormal: np.ndarray, normal: np.ndarray) -> tuple[float, float]:
    """Scale and offset of logits so that their sigmoid is the probability of abnormal, if both classes are as common.

    Targets are a little below 1 and above 0, as in Platt's paper. The result is then finite for separate classes too.

    Args:
        abnormal: logits (N,) of abnormal slices.
        normal: logits (M,) of normal slices.

    Example:
        >>> scale, offset = platt_scaling(np.array([2.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.0]))
        >>> scale > 0, round(-offset / scale, 3)
        (True, 2.0)
    """
    values = np.r_[abnormal, normal]
    middle, spread = values.mean(), max(values.std(), 1e-6)
    scaled = (values - middle) / spread
    high, low = (len(abnormal) + 1) / (len(abnormal) + 2), 1 / (len(normal) + 2)
    target = np.r_[np.full(len(abnormal), high), np.full(len(normal), low)]
    weight = np.r_[np.full(len(abnormal), 0.5 / len(abnormal)), np.full(len(normal), 0.5 / len(normal))]

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x[0] * scaled + x[1]
        wrong = weight * (expit(logits) - target)
        return float((weight * (np.logaddexp(0, logits) - target * logits)).sum()), np.array(
            [wrong @ scaled, wrong.sum()]
        )

    scale, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return float(scale / spread), float(offset - scale * middle / spread)


def best_threshold(abnormal: np.ndarray, normal: np.ndarray) -> float:
    """Threshold with the best Youden index (sensitivity + specificity - 1), midway between two values.

    Args:
        abnormal: values (N,) of abnormal slices.
        normal: values (M,) of normal slices.

    Example:
        >>> best_threshold(np.array([1.0, 3.0, 4.0]), np.array([0.0, 2.0]))
        2.5
    """
    values = np.unique(np.r_[abnormal, normal])
    index = [(abnormal > value).mean() + (normal <= value).mean() for value in values[:-1]]
    best = int(np.argmax(index)) if index else 0
    return float(values[best : best + 2].mean())


def _scaling(abnormal: np.ndarray, normal: np.ndarray) -> tuple[float, float]:
    """Platt's scale, and the offset with which 0.5 is the best threshold."""
    scale, _ = platt_scaling(abnormal, normal)
    return scale, -scale * best_threshold(abnormal, normal)


def _balanced_error(abnormal: np.ndarray, normal: np.ndarray) -> float:
    """Expected calibration error with as many normal as abnormal slices; those of the smaller class are repeated."""
    count = max(len(abnormal), len(normal))
    scores = np.r_[np.resize(abnormal, count), np.resize(normal, count)]
    return expected_calibration_error(scores, np.r_[np.ones(count), np.zeros(count)])


def _whitening(context: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (C,) and axes (C, C), scaled to variance 1; all but ``count`` share their mean variance.

    Axes without variance are 0.
    """
    variances, axes = np.linalg.eigh(np.cov(context, rowvar=False))  # in ascending order
    rest = variances[: max(0, len(variances) - count)]
    if len(rest):
        rest[:] = rest.mean()
    used = variances > 1e-12 * variances[-1]
    return context.mean(0), axes * np.where(used, np.where(used, variances, 1) ** -0.5, 0)


def _batches(images: Images, size: int) -> Iterator[torch.Tensor]:
    """Batches (B, 3, S, S) in [0, 1]."""
    for start in range(0, len(images), size):
        batch = torch.as_tensor(images[start : start + size])
        batch = batch.float() / 255 if batch.dtype == torch.uint8 else batch.float()
        yield batch if batch.ndim == 4 else batch[:, None].expand(-1, 3, -1, -1)
