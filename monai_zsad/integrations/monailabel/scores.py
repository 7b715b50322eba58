"""Volume scores of studies, computed once and kept, and the order of the studies by their scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from monai_zsad.errors import InputError
from monai_zsad.result_files import CASE_FILES, SUMMARY_FILE
from monai_zsad.writers import atomic_path, fingerprint

__all__ = ["ResultScores", "Score", "ScoreStore", "image_stamp", "next_image"]


@dataclass(frozen=True)
class Score:
    """The volume score of one image, or ``None`` and the reason."""

    volume_score: float | None
    reason: str = ""


class ScoreStore:
    """Scores by image in a JSON file that several processes may read and write.

    MONAI Label's own data store was not enough: the server's process overwrites its file, and the scores of another
    process would be lost.

    Args:
        path: the JSON file, which may not exist yet.

    Example:
        >>> import tempfile
        >>> store = ScoreStore(Path(tempfile.mkdtemp()) / "scores.json")
        >>> store.put("anna", "key", Score(0.75))
        >>> store.get("anna", "key").volume_score, store.get("anna", "another key")
        (0.75, None)
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, image: str, key: str) -> Score | None:
        """Return the score of ``image`` if it was computed with the same ``key``, else ``None``."""
        return self.among([(image, key)]).get(image)

    def among(self, images: Iterable[tuple[str, str]]) -> dict[str, Score]:
        """Return the scores of the given images, pairs of image and key, as far as they are known."""
        content = self._read()
        found = {image: content.get(image) for image, key in images if content.get(image, {}).get("key") == key}
        return {image: Score(entry["volume_score"], entry["reason"]) for image, entry in found.items() if entry}

    def put(self, image: str, key: str, score: Score) -> None:
        """Write the score of ``image`` to the file.

        Raises:
            OutputError: if the file cannot be written.
        """
        from filelock import FileLock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            content = self._read()
            content[image] = {"key": key, "volume_score": score.volume_score, "reason": score.reason}
            with atomic_path(self.path) as temporary:
                temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


class ResultScores:
    """Volume scores in a folder of results, such as those of scans that were compared with one another.

    Args:
        folder: output folder of ``screen``.

    Raises:
        InputError: if the folder holds no results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser()
        if not (self.folder / SUMMARY_FILE).is_file():
            raise InputError(f"{folder} holds no {SUMMARY_FILE}: give the output folder of an earlier run of `screen`")

    def among(self, images: Iterable[tuple[str, Path | None]]) -> dict[str, Score]:
        """Return the scores of the given images whose names are cases of the run.

        Args:
            images: pairs of name and file; the file is ``None`` for a series on a DICOMweb server.

        Returns:
            Scores by name. The score of a file that is not the one that was screened is ``None``, with the reason.
        """
        content = json.loads((self.folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        cases = {case["case"]: case for case in content["cases"]}
        return {image: self._score(cases[image], file) for image, file in images if image in cases}

    def _score(self, case: Mapping[str, Any], file: Path | None) -> Score:
        if case["status"] != "done":
            return Score(None, str(case["reason"]))
        if file is not None:
            manifest = self.folder / case["case"] / CASE_FILES["manifest"].name
            screened = json.loads(manifest.read_text(encoding="utf-8"))["fingerprint"]["input"]
            if screened != _input_hash(file, image_stamp(file)):
                return Score(None, f"{file.name} is not the file that was screened: screen it again")
        return Score(float(case["volume_score"]))


@cache
def _input_hash(file: Path, stamp: str) -> str | None:  # noqa: ARG001 - the stamp tells when the file has changed
    return fingerprint(source_files=str(file)).input


def image_stamp(path: Path | None) -> str:
    """Return a text that changes when the file, or a file in the folder, changes.

    It is empty for ``None``, an image on a DICOMweb server.
    """
    if path is None:
        return ""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def next_image(
    images: Iterable[str], scores: Mapping[str, Score], shown: Callable[[str], float]
) -> tuple[str, Score | None] | None:
    """Choose the image to look at next.

    Images that were never shown come first, then those that were shown the longest time ago. Among them, the largest
    volume score comes first, then images without a score, then images that cannot be scored, both by name.

    Args:
        images: names of the images to look at.
        scores: the known scores by image.
        shown: function that returns when an image was shown last, in seconds; 0 for never.

    Returns:
        The image and its score, which may be unknown; ``None`` if there are no images.

    Example:
        >>> next_image(["a", "b", "c"], {"a": Score(0.2), "b": Score(0.9)}, lambda image: 0.0)
        ('b', Score(volume_score=0.9, reason=''))
    """

    def rank(image: str) -> tuple[float, int, float, str]:
        score = scores.get(image)
        if score is None:
            return shown(image), 1, 0.0, image
        if score.volume_score is None:
            return shown(image), 2, 0.0, image
        return shown(image), 0, -score.volume_score, image

    ranked = sorted(images, key=rank)
    return (ranked[0], scores.get(ranked[0])) if ranked else None
