"""The manifest of a case: its files, input, model and settings. A case is complete if its manifest is valid."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Hashable, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor

from monai_zsad.errors import OutputError
from monai_zsad.result_files import CASE_FILES, final_name, old_files
from monai_zsad.writers.base import CaseLayout, CaseWriter
from monai_zsad.writers.facts import RESULT_WARNINGS, Meta, require, software
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.records.fingerprint import Fingerprint, file_hash, fingerprint

__all__ = [
    "SaveManifestD",
    "SaveManifestDict",
    "SaveManifestd",
    "is_complete",
    "verify_manifest",
]

SCHEMA = "monai-zsad/manifest"
SCHEMA_VERSION = 1

_FILE = CASE_FILES["manifest"]
# The coarsest resolution of time stamps among file systems in use (FAT).
_GRAIN_NS = 2_000_000_000


class SaveManifestd(CaseWriter):
    """Write ``<output_dir>/<case>/manifest.json``, after all other writers of a case.

    MONAI's writers record at most the names of their files. So a later run does not know whether a case is complete, or
    whether it was made with other settings. The manifest names every file in the folder of the case that was written
    since this transform was made, with size and SHA-256, and the :class:`Fingerprint`. It contains descriptions and
    paths only as hashes, and no date: equal runs write equal manifests. Codes of warnings about the results
    (:data:`RESULT_WARNINGS`) are in it, too: a case whose DICOM results failed counts as incomplete.

    Args:
        keys: key of the anomaly map. Only one key, because a case has one manifest.
        output_dir: folder of the run.
        meta: the bundle's description of its model, or a function that returns it, as for :class:`SaveScoresd`.
        settings: see :func:`fingerprint`.
        image_key: key of the scan. Its meta data name its files under ``source_files``, joined by line breaks.
        allow_missing_keys: do nothing if the data do not have the key.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from monai_zsad.writers import SaveCased
        >>> folder = tempfile.mkdtemp()
        >>> data = {"case": "anna", "pred": torch.zeros(1, 2, 3, 4)}
        >>> last = SaveManifestd(keys="pred", output_dir=folder, meta={"method": "crane"})
        >>> _ = last(SaveCased(keys="pred", output_dir=folder)(data))
        >>> verify_manifest(folder, "anna")
        []
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str] = "./",
        meta: Meta = None,
        settings: Mapping[str, Any] | None = None,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, meta, allow_missing_keys)
        self.layout = CaseLayout(output_dir, _FILE.postfix, _FILE.extension, makedirs=True)
        self.settings = dict(settings or {})
        self.image_key = image_key
        self._since = time.time_ns()

    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Write the manifest for one key.

        Raises:
            OutputError: if there is no case id or no file of the case, or the manifest cannot be written.
        """
        require(data, {"case": "find_scans"})
        case = str(data["case"])
        path = self.layout.filename(subject=case)
        made_by = fingerprint(self.meta, self.settings, self._source_files(data, key))
        with atomic_path(path) as temporary:
            temporary.touch()
            # The clock of a file server may differ from the clock of this machine.
            since = self._since + temporary.stat().st_mtime_ns - time.time_ns() - _GRAIN_NS
            written = _written(path, since)
            if not written:
                raise OutputError(f"{path}: this run has written no file of the case; put the other writers before")
            content = {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "case": case,
                "files": {name: _facts(path.parent / name) for name in written},
                "fingerprint": asdict(made_by),
                "software": software(),
                **({"warning_codes": codes} if (codes := _result_codes(data)) else {}),
            }
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        for replaced in old_files(path.parent):
            replaced.unlink(missing_ok=True)

    def _source_files(self, data: Mapping[Hashable, Any], key: Hashable) -> Any:
        volumes = [volume for volume in (data.get(self.image_key), data[key]) if isinstance(volume, MetaTensor)]
        return next((volume.meta["source_files"] for volume in volumes if volume.meta.get("source_files")), None)


SaveManifestD = SaveManifestDict = SaveManifestd


def verify_manifest(output_dir: str | os.PathLike[str], case: str) -> list[str]:
    """Check the manifest of a case and the files that it names.

    Args:
        output_dir: folder of the run.
        case: its id.

    Returns:
        One sentence for each fault; an empty list if there is no fault.

    Example:
        >>> import tempfile
        >>> verify_manifest(tempfile.mkdtemp(), "anna")
        ['manifest.json: cannot be read (No such file or directory)']
    """
    return _verified(output_dir, case)[1]


def is_complete(output_dir: str | os.PathLike[str], case: str, fingerprint: Fingerprint) -> bool:
    """Whether a case need not be run again: its manifest is valid, and model, settings and input are the same.

    A case with unknown input counts as incomplete, because another scan may have its name.

    Args:
        output_dir: folder of the run.
        case: its id.
        fingerprint: fingerprint of the case as it would be run now.

    Returns:
        True if the case is complete.
    """
    content, problems = _verified(output_dir, case)
    return not problems and fingerprint.input is not None and content.get("fingerprint") == asdict(fingerprint)


def _verified(output_dir: str | os.PathLike[str], case: str) -> tuple[dict[str, Any], list[str]]:
    path = CaseLayout(output_dir, _FILE.postfix, _FILE.extension).filename(subject=case)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return {}, [f"{path.name}: cannot be read ({error.strerror})"]
    except ValueError as error:
        return {}, [f"{path.name}: is not a JSON file ({error})"]
    problems = []
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict) or not content["files"]:
        return {}, [f"{path.name}: lists no files"]
    for name, expected in {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "case": case}.items():
        if content.get(name) != expected:
            problems.append(f"{path.name}: {name} is {content.get(name)!r}, not {expected!r}")
    if "dicom-failed" in content.get("warning_codes", ()):
        problems.append(f"{path.name}: DICOM results could not be written when the case was run")
    for name, facts in content["files"].items():
        if problem := _difference(path.parent, name, facts):
            problems.append(f"{name}: {problem}")
    return content, problems


def _difference(folder: Path, name: str, facts: Any) -> str | None:
    """How a file differs from its entry in the manifest."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        return "lies outside the case's folder"
    path = folder / name
    if not path.is_file():
        return "is missing"
    if not isinstance(facts, dict):
        return "has no size and hash in the manifest"
    try:
        # The size first: it shows most differences without reading the file.
        size = path.stat().st_size
        if size != facts.get("bytes"):
            return f"has {size} bytes, not {facts.get('bytes')}"
        found = file_hash(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == facts.get("sha256") else f"has the SHA-256 {found}, not {facts.get('sha256')}"


def _written(manifest: Path, since: int) -> list[str]:
    """Names, relative to the case's folder, of the files changed since a time in ns."""
    folder = manifest.parent
    files = [path for path in folder.rglob("*") if path.is_file() and path != manifest]
    return sorted(
        path.relative_to(folder).as_posix()
        for path in files
        if final_name(path.name) is None and path.stat().st_mtime_ns >= since
    )


def _result_codes(data: Mapping[Hashable, Any]) -> list[str]:
    return [code for code in str(data.get("warning_codes") or "").split() if code in RESULT_WARNINGS]


def _facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_hash(path)}
