from .cases import ClassBatches, LoadTruth, PictureCased, benchmark_cases, image_prediction, volume_prediction
from .evaluator import (
    BenchmarkEvaluator,
    ClassPrompts,
    IsolatedCases,
    before_writing,
    collate_cases,
    scored_network,
)
from .metrics import (
    METRICS,
    Estimate,
    Findings,
    Metric,
    Scoring,
    image_findings,
    metric_table,
    metrics_of,
    volume_findings,
)
from .page import evaluation_page
from .predictions import Prediction, load_prediction, prediction_file, save_prediction
from .protocols import Protocol, choose_protocol, class_prompts, known_protocols
from .published import PublishedMetric, published_metrics, published_title
from .running import EvaluationRun, SavePredictiond
from .scoring import TABLE_FILES, score_run
from .tables import Table

__all__ = [
    "METRICS",
    "TABLE_FILES",
    "BenchmarkEvaluator",
    "ClassBatches",
    "ClassPrompts",
    "Estimate",
    "EvaluationRun",
    "Findings",
    "IsolatedCases",
    "LoadTruth",
    "Metric",
    "PictureCased",
    "Prediction",
    "Protocol",
    "PublishedMetric",
    "SavePredictiond",
    "Scoring",
    "Table",
    "before_writing",
    "benchmark_cases",
    "choose_protocol",
    "class_prompts",
    "collate_cases",
    "evaluation_page",
    "image_findings",
    "image_prediction",
    "known_protocols",
    "load_prediction",
    "metric_table",
    "metrics_of",
    "prediction_file",
    "published_metrics",
    "published_title",
    "save_prediction",
    "score_run",
    "scored_network",
    "volume_findings",
    "volume_prediction",
]
