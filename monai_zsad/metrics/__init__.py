"""Figures of anomaly detection that MONAI lacks, or has in forms that do not serve whole data sets.

Plain functions are exact. Classes are MONAI's ``CumulativeIterationMetric``; they gather over processes, also uneven
ones, and those that sum histograms return bounds within which the exact figure lies.
"""

from monai_zsad.metrics.calibration import (
    CalibrationTable,
    ScoreCalibrationMetric,
    calibration_table,
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
from monai_zsad.metrics.ranking import VoxelRanking, auroc, average_precision, f1_max, rank_voxels, ranking_curve
from monai_zsad.metrics.regions import aupro, aupro_released
from monai_zsad.metrics.resampling import Interval, bootstrap_interval, per_class
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
    "VoxelRanking",
    "aupro",
    "aupro_released",
    "auroc",
    "average_precision",
    "bootstrap_interval",
    "calibration_table",
    "conformal_p_values",
    "conformal_threshold",
    "dice_max",
    "expected_calibration_error",
    "f1_max",
    "histogram_curve",
    "lesion_froc",
    "per_class",
    "pooled_froc",
    "rank_voxels",
    "ranking_curve",
    "region_shares",
    "score_histograms",
    "slice_scores",
    "smallest_reference_count",
]
