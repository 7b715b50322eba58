"""The fingerprint of a case: hashes of all inputs that determine its result."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.writers.facts import Meta, described, plain

__all__ = ["Fingerprint", "content_hash", "file_hash", "fingerprint"]

_BLOCK = 1 << 20

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of all inputs that determine the result of a case. Cases with equal fingerprints have equal results.

    Attributes:
        model: SHA-256 of the model's description.
        configuration: SHA-256 of the settings of the run.
        input: SHA-256 of the hashes of the scan's files; it does not depend on their order and names. ``None`` if the
            files are not known.
    """

    model: str
    configuration: str
    input: str | None


def fingerprint(
    model: Meta = None,
    settings: Mapping[str, Any] | None = None,
    source_files: str | Sequence[str | os.PathLike[str]] | None = None,
) -> Fingerprint:
    """The fingerprint of a case, before or after it is run.

    Args:
        model: the bundle's description of its model, or a function that returns it, once its weights are loaded.
        settings: all other options that change the result (plane, window, thresholds and others), without folders.
        source_files: paths of the files that the scan is read from, as a list or joined by line breaks.

    Returns:
        Hashes of model, settings and input.

    Example:
        >>> fingerprint({"method": "crane"}) == fingerprint(lambda: {"method": "crane"}, {})
        True
        >>> fingerprint({"method": "crane"}).input is None
        True
    """
    return Fingerprint(content_hash(described(model)), content_hash(settings or {}), _input_hash(source_files))


def content_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 of plain values; the order of keys does not matter.

    Args:
        content: numbers, texts, lists and dictionaries.

    Returns:
        The hash in hexadecimal digits.

    Example:
        >>> content_hash({"a": 1, "b": (2, 3)}) == content_hash({"b": [2, 3], "a": 1})
        True
    """
    text = json.dumps(plain(content, "content"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _input_hash(source_files: str | Sequence[str | os.PathLike[str]] | None) -> str | None:
    names = source_files.split("\n") if isinstance(source_files, str) else source_files or []
    try:
        hashes = sorted(file_hash(Path(name).expanduser()) for name in names if str(name))
    except OSError as error:
        _logger.warning(
            "the scan's files cannot be read again (%s): the manifest tells no input, and the case will not count as "
            "complete",
            error.strerror,
        )
        return None
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else None
