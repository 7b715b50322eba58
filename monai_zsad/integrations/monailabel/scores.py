"""Volume scores of studies, computed once and kept, and the order of the studies by their scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.writers import atomic_path

__all__ = ["Score", "ScoreStore", "image_stamp", "next_image"]


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
