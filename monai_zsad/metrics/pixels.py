"""Ranking of pixels over a whole validation set, in memory that does not grow with the pixels."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from monai.metrics import CumulativeIterationMetric

from monai_zsad.errors import ConfigurationError

__all__ = ["PixelRankingMetric"]


class PixelRankingMetric(CumulativeIterationMetric):
    """AUROC or average precision of all pixels of all images together.

    MONAI's ``ROCAUCMetric`` and ``AveragePrecisionMetric`` keep and sort every value, in a loop of Python: minutes and
    gigabytes for a validation set. Here each image becomes two histograms, of its normal and its anomalous pixels;
    pixels of one bin count as equal, so scores that differ by less than ``1 / bins`` are not told apart.

    Args:
        metric: ``"auroc"`` or ``"average_precision"``.
        bins: number of bins over [0, 1].

    Raises:
        ConfigurationError: for another metric.

    Example:
        >>> metric = PixelRankingMetric("auroc")
        >>> scores, mask = torch.tensor([[[[0.1, 0.2, 0.9]]]]), torch.tensor([[[[0.0, 1.0, 1.0]]]])
        >>> _ = metric(scores, mask)
        >>> metric.aggregate()
        1.0
    """

    def __init__(self, metric: Literal["auroc", "average_precision"] = "average_precision", bins: int = 8192) -> None:
        super().__init__()
        if metric not in ("auroc", "average_precision"):
            raise ConfigurationError(f"metric={metric!r} is unknown: choose auroc or average_precision")
        self.metric = metric
        self.bins = bins

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        """Histograms (B, 2, bins) of the normal and the anomalous pixels.

        Args:
            y_pred: (B, 1, H, W) in [0, 1].
            y: (B, 1, H, W), 1 where anomalous.
            _: no further ones are known.
        """
        if y is None or y.shape != y_pred.shape:
            raise ConfigurationError(f"maps of shape {tuple(y_pred.shape)} need masks of the same shape")
        histograms = []
        for scores, mask in zip(y_pred.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor), strict=True):
            places = (scores.float().flatten().clamp(0, 1) * self.bins).long().clamp_max(self.bins - 1)
            anomalous = mask.flatten() > 0
            kinds = (places[~anomalous], places[anomalous])
            histograms.append(torch.stack([torch.bincount(kind, minlength=self.bins) for kind in kinds]))
        return torch.stack(histograms).float()

    def aggregate(self) -> float:
        """The metric over all images; NaN, with a warning, if there are no anomalous or no normal pixels."""
        histograms = self.get_buffer()
        if not isinstance(histograms, torch.Tensor):
            raise ConfigurationError("there is nothing to aggregate: no image was given")
        # From the highest score down.
        normal, anomalous = histograms.double().sum(0).flip(-1).unbind(0)
        if not (normal.sum() and anomalous.sum()):
            warnings.warn(f"{self.metric} needs normal and anomalous pixels; it is NaN here", stacklevel=2)
            return float("nan")
        found, passed = anomalous.cumsum(0), normal.cumsum(0)
        if self.metric == "auroc":
            # A pair in one bin counts half.
            return float((normal * (found - anomalous / 2)).sum() / (normal.sum() * anomalous.sum()))
        precision = found / (found + passed).clamp_min(1)
        return float((precision * anomalous).sum() / anomalous.sum())
