"""Text features on disk, so that a second start with the same weights and sentences needs no text pass."""

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
# Increase this number when the arithmetic of the text towers changes, so that older files are not used.
_VERSION = 1


def anchor_folder() -> Path:
    """Folder of the text features, beside the weights."""
    return weights_folder().parent / "text_features"


def cached_text_features(
    clip: CLIPBackbone,
    sentences: Sequence[str],
    compute: Callable[[], torch.Tensor],
    adapters: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Text features from disk, or from ``compute`` if they were not yet computed with these weights and sentences.

    The key consists of the hash of the CLIP file (or its seed), architecture and activation, the sentences in their
    order, and the values of ``adapters``. For a CLIP that was loaded with ``load_state_dict``, no file is known and
    nothing is stored. If a stored file cannot be read, the features are computed again. If the folder cannot be
    written to, they are not stored.

    Args:
        clip: the backbone that encodes the sentences.
        sentences: the sentences in the order of the features.
        compute: function that computes the features.
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
            logger.info("%s cannot be read and is computed again (%s)", file.name, error)
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
        logger.info("text features are not stored: %s cannot be written (%s)", file.parent, error)
