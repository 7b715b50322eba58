"""Codes of the warnings about a scan that is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.data import MetaTensor

__all__ = ["warning_codes"]


def warning_codes(batch: Any) -> tuple[str, ...]:
    r"""Codes of what was repaired when the scan was found and read, each once.

    Args:
        batch: a collated item, ``warning_codes`` beside the image and in its meta data.

    Example:
        >>> warning_codes({"warning_codes": ["set-aside\njitter"]})
        ('set-aside', 'jitter')
    """
    if not isinstance(batch, Mapping):
        return ()
    image = batch.get("image")
    sources = [batch.get("warning_codes"), image.meta.get("warning_codes") if isinstance(image, MetaTensor) else None]
    texts = [str(source[0]) if isinstance(source, list | tuple) and source else source for source in sources]
    return tuple(dict.fromkeys(code for text in texts if isinstance(text, str) for code in text.split("\n") if code))
