from . import aaclip, calibrating, concepts, crane, feature_cache, files, pretrained, seeded, slices, small_model, start
from .seeded import ResumableSampler, SeededDataset

__all__ = [
    "ResumableSampler",
    "SeededDataset",
    "aaclip",
    "calibrating",
    "concepts",
    "crane",
    "feature_cache",
    "files",
    "pretrained",
    "seeded",
    "slices",
    "small_model",
    "start",
]
