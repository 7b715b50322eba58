from . import dinov2, features, fusion, images, inferer, matching, pairs, products, references, scoring, store
from .dinov2 import DINOv2Features
from .features import DenseFeatures
from .images import choose_references, rscin
from .inferer import MutualInferer
from .matching import Kind, scan_kind
from .references import References, coreset
from .scoring import MuSc, MutualScores, aggregate, interval_mean, mutual_scores, nearest_distances
from .store import FeatureStore, ScanFeatures, StoredScan

__all__ = [
    "DINOv2Features",
    "DenseFeatures",
    "FeatureStore",
    "Kind",
    "MuSc",
    "MutualInferer",
    "MutualScores",
    "References",
    "ScanFeatures",
    "StoredScan",
    "aggregate",
    "choose_references",
    "coreset",
    "dinov2",
    "features",
    "fusion",
    "images",
    "inferer",
    "interval_mean",
    "matching",
    "mutual_scores",
    "nearest_distances",
    "pairs",
    "products",
    "references",
    "rscin",
    "scan_kind",
    "scoring",
    "store",
]
