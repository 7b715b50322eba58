from .seeded import ResumableSampler, SeededDataset

__all__ = ["ResumableSampler", "SeededDataset"]
