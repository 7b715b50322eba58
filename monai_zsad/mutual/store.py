"""Features of scans, computed once and kept: one folder for each model and its settings, one file for each scan."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from monai_zsad.errors import InputError
from monai_zsad.mutual.matching import Kind
from monai_zsad.result_files import CASE_FILES, case_folder, make_folder
from monai_zsad.writers import (
    CaseLayout,
    CaseWriter,
    SaveManifestd,
    atomic_path,
    content_hash,
    fingerprint,
    is_complete,
)

__all__ = ["FEATURES_FILE", "FeatureStore", "SaveFeaturesd", "ScanFeatures", "StoredScan"]

FEATURES_FILE = "features.safetensors"
_SCHEMA = "monai-zsad/features/1"
_ABOUT = "about"


@dataclass(frozen=True)
class ScanFeatures:
    """Features of n slices of a scan.

    Attributes:
        tokens: (n, layers, tokens, channels), float16.
        embeddings: (n, channels), one for each slice, float32.
        heights: (n,), see :func:`~monai_zsad.mutual.matching.body_heights`.
        planes: (n,), int64: number of the plane of each slice, in the order of :attr:`Kind.planes`.
    """

    tokens: torch.Tensor
    embeddings: torch.Tensor
    heights: torch.Tensor
    planes: torch.Tensor


class FeatureStore:
    """Features of scans in ``<root>/<hash of what made them>/<case>/features.safetensors``, each with a manifest.

    MONAI's ``PersistentDataset`` keys a file by its path, does not notice other weights, and reads it as a whole. Here,
    features of other weights or settings are in another folder, so that they are never mixed. A scan's features are
    complete if its manifest verifies and its files are unchanged, as with results. Files are read by memory mapping.

    Args:
        root: folder of all features.
        model: description of the network that makes the features.
        settings: whatever else decides them.

    Raises:
        OutputError: if the folder cannot be made.

    Example:
        >>> import tempfile
        >>> root = tempfile.mkdtemp()
        >>> store = FeatureStore(root, {"method": "crane"}, {"plane": "axial"})
        >>> store.folder == FeatureStore(root, {"method": "crane"}, {"plane": "coronal"}).folder
        False
    """

    def __init__(
        self, root: str | os.PathLike[str], model: Mapping[str, Any], settings: Mapping[str, Any] | None = None
    ) -> None:
        self.model = dict(model)
        self.settings = dict(settings or {})
        self.key = content_hash({"schema": _SCHEMA, "model": self.model, "settings": self.settings})
        self.folder = Path(root).expanduser() / self.key[:16]
        make_folder(self.folder)

    def holds(self, case: str, source_files: Sequence[str] | str) -> bool:
        """Whether the features of a scan are complete, and its files are the same as when they were made.

        Args:
            case: name of the scan.
            source_files: of the scan.

        Returns:
            False if they must be computed.
        """
        if not self._file(case).is_file():
            return False
        return is_complete(self.folder, case, fingerprint(self.model, self.settings, source_files))

    def has_file(self, case: str) -> bool:
        """Whether there are features of a scan of this name, without the checks of :meth:`holds`.

        Args:
            case: name of the scan.

        Returns:
            True if there is a file.
        """
        return self._file(case).is_file()

    def writers(self) -> list[CaseWriter]:
        """The transforms that write the features of a case, the manifest last."""
        manifest = SaveManifestd("pred", self.folder, self.model, self.settings)
        return [SaveFeaturesd("pred", self.folder), manifest]

    def read(self, case: str) -> StoredScan:
        """The features of a scan.

        Args:
            case: name of the scan.

        Returns:
            What is known of the scan; its tokens are read later.

        Raises:
            InputError: if there are none, or the file is damaged.
        """
        return StoredScan(self._file(case))

    def _file(self, case: str) -> Path:
        return case_folder(self.folder, case) / FEATURES_FILE


class StoredScan:
    """Features of one scan in a file. It is open only while tokens are read, since there may be very many scans.

    Args:
        file: a file of :class:`SaveFeaturesd`.

    Attributes:
        case: name of the scan.
        kind: of the scan.
        heights: (n,), see :class:`ScanFeatures`.
        planes: (n,), see :class:`ScanFeatures`.
        embedding: (channels,), mean of the slices.
        shape: slices, layers, tokens and channels.

    Raises:
        InputError: if the file is missing or damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with self._readable() as opened:
            about = json.loads(opened.metadata()[_ABOUT])
            self.case = str(about["case"])
            self.kind = Kind.from_json(about["kind"])
            self.heights, self.planes = (opened.get_tensor(name) for name in ("heights", "planes"))
            self.embedding = opened.get_tensor("embeddings").float().mean(0)
            self.shape = tuple(opened.get_slice("tokens").get_shape())

    def tokens(self) -> Callable[[int], torch.Tensor]:
        """Open the file to read tokens, as long as the result lives.

        Returns:
            A function from the number of a slice to its tokens: (layers, tokens, channels), float16.

        Raises:
            InputError: if the file is damaged, or was removed in between.
        """
        with self._readable():
            opened = safe_open(self.file, framework="pt")
        slices = opened.get_slice("tokens")
        return lambda number: slices[number : number + 1][0]

    @contextmanager
    def _readable(self) -> Iterator[Any]:
        try:
            with safe_open(self.file, framework="pt") as opened:
                yield opened
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            folder = self.file.parent
            raise InputError(
                f"{folder.name}: its features cannot be read ({error}); remove {folder} and run again"
            ) from error

    @cached_property
    def input(self) -> str:
        """Hash of the scan's files, of the manifest; empty if they were not known."""
        manifest = self.file.with_name(CASE_FILES["manifest"].name)
        try:
            return str(json.loads(manifest.read_text(encoding="utf-8"))["fingerprint"]["input"] or "")
        except (OSError, LookupError, TypeError, ValueError):
            return ""


class SaveFeaturesd(CaseWriter):
    """Write ``<folder>/<case>/features.safetensors`` from the data of a case.

    MONAI's ``SaveImage`` writes volumes with a geometry; features have none.

    Args:
        keys: key of the features: a mapping with the entries of :class:`ScanFeatures` as tensors, and
            ``kind``, a text of :meth:`Kind.as_json`.
        output_dir: folder of the store.
    """

    def __init__(self, keys: str = "pred", output_dir: str | os.PathLike[str] = "./") -> None:
        super().__init__(keys)
        postfix, _, extension = FEATURES_FILE.partition(".")
        self.layout = CaseLayout(output_dir, postfix, f".{extension}", makedirs=True)

    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Write the file of one key.

        Raises:
            OutputError: if it cannot be written.
        """
        found, case = data[key], str(data["case"])
        tensors = {name: found[name].contiguous().cpu() for name in ScanFeatures.__dataclass_fields__}
        about = json.dumps({"schema": _SCHEMA, "case": case, "kind": found["kind"]})
        with atomic_path(self.layout.filename(subject=case)) as temporary:
            save_file(tensors, temporary, {_ABOUT: about})
