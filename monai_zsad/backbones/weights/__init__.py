"""Released weights: what exists, where the files lie, how they are downloaded and read."""

from monai_zsad.backbones.weights.download import fetch
from monai_zsad.backbones.weights.files import cached_path, sha256_of, weights_folder
from monai_zsad.backbones.weights.reading import read_state_dict, refuse_pointer
from monai_zsad.backbones.weights.registry import (
    CLIP_MEAN,
    CLIP_STD,
    WeightsEntry,
    WeightsKind,
    entry_of_sha256,
    get_entry,
    list_entries,
)
from monai_zsad.backbones.weights.state_dicts import (
    WeightsRecord,
    adapter_state_dict,
    check_source,
    clip_state_dict,
    prior_state_dict,
    prompts_state_dict,
)

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "WeightsEntry",
    "WeightsKind",
    "WeightsRecord",
    "adapter_state_dict",
    "cached_path",
    "check_source",
    "clip_state_dict",
    "entry_of_sha256",
    "fetch",
    "get_entry",
    "list_entries",
    "prior_state_dict",
    "prompts_state_dict",
    "read_state_dict",
    "refuse_pointer",
    "sha256_of",
    "weights_folder",
]
