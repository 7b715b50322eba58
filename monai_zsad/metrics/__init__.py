"""Metrics that MONAI lacks."""

from monai_zsad.metrics.lesions import LesionFroc, VoxelRanking, lesion_froc, rank_voxels, slice_scores
from monai_zsad.metrics.pixels import PixelRankingMetric

__all__ = ["LesionFroc", "PixelRankingMetric", "VoxelRanking", "lesion_froc", "rank_voxels", "slice_scores"]
