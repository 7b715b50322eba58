"""Cache on disk for frozen features of training images, so that later epochs skip the frozen tower."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from monai_zsad.errors import OutputError

__all__ = ["FeatureCache"]

# Increase it if the computation of frozen features changes, so that older files are not used.
_VERSION = 1
Features = dict[str, torch.Tensor]


class FeatureCache:
    """Cache with one safetensors file per image. The file name is a hash of the image's values and of ``facts``.

    MONAI's ``PersistentDataset`` stores the output of transforms by the record of an item. Features also depend on the
    weights and on the values that reach the network. Files are complete or absent, so several runs can share a folder.

    Args:
        folder: folder of the cache. A missing folder is made. ViT-L/14 at 518 pixels takes 4 MiB per image and layer.
        facts: everything besides the image that the features depend on, as JSON values.

    Raises:
        OutputError: the folder cannot be made.

    Example:
        >>> import tempfile
        >>> cache = FeatureCache(tempfile.mkdtemp(), {"weights": "abc"})
        >>> images = torch.rand(2, 1, 4, 4)
        >>> first = cache(images, lambda images: {"mean": images.mean((1, 2, 3))})
        >>> again = cache(images.flip(0), lambda images: {})
        >>> torch.equal(first["mean"].flip(0), again["mean"]), cache.hits, cache.misses
        (True, 2, 2)
    """

    def __init__(self, folder: str | os.PathLike[str], facts: Mapping[str, Any]) -> None:
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: the folder cannot be made ({error.strerror}); give another --feature_cache"
            ) from error
        self._prefix = hashlib.sha256(json.dumps([_VERSION, dict(facts)], sort_keys=True).encode()).digest()
        self.hits = 0
        self.misses = 0

    def __call__(self, images: torch.Tensor, compute: Callable[[torch.Tensor], Features]) -> Features:
        """Features of a batch. Only those of new images are computed.

        Args:
            images: (B, C, H, W).
            compute: function from images to batch-first tensors by name. It gets the new images only.

        Returns:
            Batch-first tensors by name, on the device of ``images``.

        Raises:
            OutputError: a file cannot be written.
        """
        files = [self.folder / f"{self._key(image)}.safetensors" for image in images]
        found = {index: kept for index, file in enumerate(files) if (kept := _read(file)) is not None}
        missing = [index for index in range(len(files)) if index not in found]
        self.hits, self.misses = self.hits + len(found), self.misses + len(missing)
        if missing:
            computed = compute(images[missing])
            for row, index in enumerate(missing):
                found[index] = {name: tensor[row] for name, tensor in computed.items()}
                _write(found[index], files[index])
        ordered = [found[index] for index in range(len(files))]
        return {name: torch.stack([kept[name].to(images.device) for kept in ordered]) for name in ordered[0]}

    def _key(self, image: torch.Tensor) -> str:
        digest = hashlib.sha256(self._prefix)
        digest.update(str(tuple(image.shape)).encode())
        digest.update(image.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _read(file: Path) -> Features | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        return None
    try:
        return load_file(file)
    except (SafetensorError, OSError):
        # The file is damaged, so the features are computed again.
        return None


def _write(features: Mapping[str, torch.Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    temporary = file.with_name(f".{uuid.uuid4().hex[:8]}.part")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in features.items()}, temporary)
        temporary.replace(file)
    except OSError as error:
        raise OutputError(
            f"{file.parent}: features cannot be written ({error.strerror or error}); free space there, give another "
            "--feature_cache, or leave it out"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
