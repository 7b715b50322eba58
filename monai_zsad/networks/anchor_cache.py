"""Text features kept on disk, so that a second start with the same weights and sentences needs no text pass."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from monai_zsad.backbones import CLIPBackbone
from monai_zsad.backbones.weights import weights_folder

__all__ = ["anchor_folder", "cached_text_features"]

logger = logging.getLogger(__name__)
# Raised when the arithmetic of the text towers changes, so that older files are not taken for newer ones.
_VERSION = 1


def anchor_folder() -> Path:
    """Where text features are kept: beside the weights."""
    return weights_folder().parent / "text_features"


def cached_text_features(
    clip: CLIPBackbone,
    sentences: Sequence[str],
    compute: Callable[[], torch.Tensor],
    adapters: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """What ``compute`` returns, from disk if it was computed before with the same weights and sentences.

    The key is the hash of the CLIP file (or its seed), architecture and activation, the sentences in their order, and
    the values of ``adapters``. A CLIP that came by ``load_state_dict`` has no known file: nothing is kept for it. A
    file that cannot be read is computed anew, and a folder that cannot be written to is no error.

    Args:
        clip: the backbone that reads the sentences.
        sentences: in the order of the features.
        compute: gives the features.
        adapters: further weights of the text pass.

    Returns:
        The features on the device of the text tower, float32.
    """
    if clip.record is None:
        return compute()
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = anchor_folder() / f"{_key(clip, sentences, adapters)}.safetensors"
    if file.is_file():
        try:
            return load_file(file)["features"].to(clip.token_embedding.weight.device)
        except (SafetensorError, KeyError, OSError) as error:
            logger.info("%s cannot be read and is made anew (%s)", file.name, error)
    features = compute()
    _save(features, file)
    return features


def _key(clip: CLIPBackbone, sentences: Sequence[str], adapters: Mapping[str, torch.Tensor] | None) -> str:
    record = clip.record
    source = "" if record is None else record.sha256 or record.name
    facts = [_VERSION, source, clip.architecture_config, clip.activation, str(clip.ln_final.weight.dtype)]
    digest = hashlib.sha256(json.dumps([*facts, list(sentences)], sort_keys=True).encode())
    for name, tensor in sorted((adapters or {}).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(features: torch.Tensor, file: Path) -> None:
    from safetensors.torch import save_file

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
        os.close(handle)
        save_file({"features": features.detach().cpu().float().contiguous()}, name)
        Path(name).replace(file)
    except OSError as error:
        logger.info("text features are not kept: %s cannot be written (%s)", file.parent, error)
