"""Metrics of an evaluation: their registry, and their computation for images and for volumes."""

from monai_zsad.evaluation.metrics.estimates import Estimate, Findings, Scoring
from monai_zsad.evaluation.metrics.images import image_findings
from monai_zsad.evaluation.metrics.registry import METRICS, Metric, metric_table, metrics_of
from monai_zsad.evaluation.metrics.volumes import volume_findings

__all__ = [
    "METRICS",
    "Estimate",
    "Findings",
    "Metric",
    "Scoring",
    "image_findings",
    "metric_table",
    "metrics_of",
    "volume_findings",
]
