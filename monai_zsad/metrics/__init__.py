"""Metrics that MONAI lacks."""

from monai_zsad.metrics.conformal import conformal_p_values, conformal_threshold, smallest_reference_count
from monai_zsad.metrics.lesions import LesionFroc, VoxelRanking, lesion_froc, rank_voxels, slice_scores
from monai_zsad.metrics.pixels import PixelRankingMetric

__all__ = [
    "LesionFroc",
    "PixelRankingMetric",
    "VoxelRanking",
    "conformal_p_values",
    "conformal_threshold",
    "lesion_froc",
    "rank_voxels",
    "slice_scores",
    "smallest_reference_count",
]
