from . import (
    calibration,
    conformal,
    curves,
    dice,
    froc,
    gathered,
    histograms,
    lesions,
    pixels,
    ranking,
    regions,
    resampling,
    samples,
    values,
)
from .calibration import (
    CalibrationTable,
    ScoreCalibrationMetric,
    expected_calibration_error,
)
from .conformal import conformal_p_values, conformal_threshold, smallest_reference_count
from .curves import BestThreshold, RankingCurve
from .dice import DiceMaxMetric, dice_max
from .froc import FrocMetric
from .gathered import GatheredMetric
from .histograms import histogram_curve, score_histograms
from .lesions import FROC_RATES, LesionFroc, lesion_froc, pooled_froc
from .pixels import PixelRankingMetric
from .ranking import auroc, average_precision, f1_max, ranking_curve
from .regions import aupro, aupro_released
from .resampling import Interval, bootstrap_interval
from .samples import ImageRankingMetric, SliceRankingMetric, slice_scores
from .values import region_shares

__all__ = [
    "BestThreshold",
    "CalibrationTable",
    "DiceMaxMetric",
    "FROC_RATES",
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
    "calibration",
    "conformal",
    "conformal_p_values",
    "conformal_threshold",
    "curves",
    "dice",
    "dice_max",
    "expected_calibration_error",
    "f1_max",
    "froc",
    "gathered",
    "histogram_curve",
    "histograms",
    "lesion_froc",
    "lesions",
    "pixels",
    "pooled_froc",
    "ranking",
    "ranking_curve",
    "region_shares",
    "regions",
    "resampling",
    "samples",
    "score_histograms",
    "slice_scores",
    "smallest_reference_count",
    "values",
]
