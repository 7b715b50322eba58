"""Metrics of anomaly detection that MONAI does not have, or that it computes in ways that do not suit large data sets.

Functions are exact. Classes are MONAI's ``CumulativeIterationMetric``. They gather the samples of all processes, which
may have different numbers of samples. Classes that sum histograms also return bounds of the exact value.
"""

from monai_zsad.metrics.calibration import (
    CalibrationTable,
    ScoreCalibrationMetric,
    expected_calibration_error,
)
from monai_zsad.metrics.conformal import conformal_p_values, conformal_threshold, smallest_reference_count
from monai_zsad.metrics.curves import BestThreshold, RankingCurve
from monai_zsad.metrics.dice import DiceMaxMetric, dice_max
from monai_zsad.metrics.froc import FrocMetric
from monai_zsad.metrics.gathered import GatheredMetric
from monai_zsad.metrics.histograms import histogram_curve, score_histograms
from monai_zsad.metrics.lesions import FROC_RATES, LesionFroc, lesion_froc, pooled_froc
from monai_zsad.metrics.pixels import PixelRankingMetric
from monai_zsad.metrics.ranking import auroc, average_precision, f1_max, ranking_curve
from monai_zsad.metrics.regions import aupro, aupro_released
from monai_zsad.metrics.resampling import Interval, bootstrap_interval
from monai_zsad.metrics.samples import ImageRankingMetric, SliceRankingMetric, slice_scores
from monai_zsad.metrics.values import region_shares

__all__ = [
    "FROC_RATES",
    "BestThreshold",
    "CalibrationTable",
    "DiceMaxMetric",
    "FrocMetric",
    "GatheredMetric",
    "ImageRankingMetric",
    "Interval",
    "LesionFroc",
    "PixelRankingMetric",
    "RankingCurve",
    "ScoreCalibrationMetric",
    "SliceRankingMetric",
    "aupro",
    "aupro_released",
    "auroc",
    "average_precision",
    "bootstrap_interval",
    "conformal_p_values",
    "conformal_threshold",
    "dice_max",
    "expected_calibration_error",
    "f1_max",
    "histogram_curve",
    "lesion_froc",
    "pooled_froc",
    "ranking_curve",
    "region_shares",
    "score_histograms",
    "slice_scores",
    "smallest_reference_count",
]
