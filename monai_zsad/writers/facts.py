"""Facts that every record of a case contains: scan, model, warnings and software."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from monai_zsad._version import __version__
from monai_zsad.errors import OutputError

__all__ = [
    "RESULT_WARNINGS",
    "SEEDED_WARNING",
    "UNFAMILIAR_WARNING",
    "ResultWarning",
    "banner",
    "is_seeded",
    "without_paths",
]

Meta = Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None
"""The bundle's description of its model, or a function that returns it."""

SEEDED_WARNING = "made with seeded random weights: the values mean nothing"
"""Warning in every output of a network without trained weights."""

UNFAMILIAR_WARNING = "outside of what the model was trained on: results say little"
"""Warning in every output of a scan that is unlike the training data of the network."""

RESULT_WARNINGS: dict[str, str] = {
    "unfamiliar": "most slices of the scan are unlike all that the model was trained on, so the result says little",
    "no-dicom-results": "DICOM results were asked for, but this source can have none; all other results are complete",
    "dicom-failed": "DICOM results could not be written; all other results are complete, and --resume tries again",
    "text-replaced": "texts of the DICOM header do not fit its character set; DICOM results hold what could be read",
}
"""Codes of warnings about the results of a case (:attr:`StatusRow.codes`), each with its meaning.

The codes of warnings about the scan itself are in :data:`monai_zsad.data.REPAIRS`."""


class ResultWarning(NamedTuple):
    """A warning about the results of a case, which stands in its report, its records and its status row.

    Attributes:
        code: key of :data:`RESULT_WARNINGS`.
        sentence: the finding and the remedy, without file names and without texts of a DICOM header.
    """

    code: str
    sentence: str


def with_warnings(data: Mapping[Hashable, Any], found: Iterable[ResultWarning]) -> dict[Hashable, Any]:
    """The data of a case with further warnings.

    Example:
        >>> with_warnings({"warnings": "first"}, [ResultWarning("dicom-failed", "second")])
        {'warnings': ['first', 'second'], 'warning_codes': 'dicom-failed'}
    """
    result = dict(data)
    for code, sentence in found:
        earlier = result.get("warnings") or []
        lines = earlier.splitlines() if isinstance(earlier, str) else list(earlier)
        result["warnings"] = [*lines, *([] if sentence in lines else [sentence])]
        codes = str(result.get("warning_codes") or "").split()
        result["warning_codes"] = "\n".join([*codes, *([] if code in codes else [code])])
    return result


def is_seeded(model: Mapping[str, Any] | None) -> bool:
    """Whether a bundle's description of its model says that weights are random.

    This is so if the description contains, at any depth, a true ``seeded``, a ``seed`` that is not None (as in the
    weight records of the backbones), or a weights source ``"seed:N"``.

    Args:
        model: the description, as in scores and findings; None if there is no description.

    Returns:
        True if any part of the model is random.

    Example:
        >>> is_seeded({"method": "crane", "clip_weights": "seed:0"})
        True
        >>> is_seeded({"method": "crane", "weights": {"clip": {"name": "ViT-L-14-336:openai", "seed": None}}})
        False
    """
    return any(
        (key == "seeded" and bool(value))
        or (key == "seed" and value is not None)
        or (isinstance(value, str) and value.startswith("seed:"))
        or (isinstance(value, Mapping) and is_seeded(value))
        for key, value in (model or {}).items()
    )


def banner(model: Mapping[str, Any] | None, unfamiliar: object) -> str:
    """What stands above every figure of a case; empty if nothing has to.

    Args:
        model: the bundle's description of its model.
        unfamiliar: whether the scan is outside of what the model was trained on; None if it is not known.

    Example:
        >>> banner({}, unfamiliar=True)
        'Outside of what the model was trained on: results say little'
    """
    if is_seeded(model):
        return f"NOT A RESULT: {SEEDED_WARNING}"
    return UNFAMILIAR_WARNING.capitalize() if unfamiliar else ""


def familiarity(data: Mapping[Hashable, Any]) -> dict[str, Any]:
    """``unfamiliar`` and ``unfamiliarity`` of a case, if its network tells."""
    return {name: data[name] for name in ("unfamiliar", "unfamiliarity") if data.get(name) is not None}


def described(meta: Meta) -> dict[str, Any]:
    """The description of a model; a function is called now.

    Example:
        >>> described(lambda: {"method": "crane"})
        {'method': 'crane'}
    """
    return dict((meta() if callable(meta) else meta) or {})


def require(data: Mapping[Hashable, Any], needed: Mapping[str, str]) -> None:
    """Raise an error if a key is missing; ``needed`` names for each key the transform that adds it."""
    for name, source in needed.items():
        if data.get(name) is None:
            raise OutputError(f"no {name!r} in the data: put {source} before the writers")


def grid_affine(volume: Any) -> np.ndarray:
    """(4, 4) float64, index to mm in RAS; the identity matrix if the volume has no affine."""
    from monai.data import MetaTensor

    return volume.affine.cpu().numpy().astype(np.float64) if isinstance(volume, MetaTensor) else np.eye(4)


def scan_facts(data: Mapping[Hashable, Any], key: Hashable) -> dict[str, Any]:
    """Grid of the map under ``key`` (mm, RAS letters), modality, and the intensity step of the preprocessing."""
    import nibabel

    volume = data[key]
    affine = grid_affine(volume)
    meta = _meta(data, key)
    return {
        "shape": list(volume.shape[1:]),
        "spacing_mm": [round(float(length), 6) for length in np.linalg.norm(affine[:3, :3], axis=0)],
        "orientation": "".join(nibabel.aff2axcodes(affine)),
        "modality": data.get("modality") or meta.get("modality") or None,
        "intensity": data.get("intensity") or meta.get("intensity") or None,
    }


def _meta(data: Mapping[Hashable, Any], key: Hashable) -> Mapping[str, Any]:
    """Meta data of the reader and the preprocessing; after ``Invertd``, some of it exists only in the image."""
    from monai.data import MetaTensor

    meta: dict[str, Any] = {}
    for volume in (data.get("image"), data[key]):
        if isinstance(volume, MetaTensor):
            meta.update(volume.meta)
    return meta


def warnings_of(data: Mapping[Hashable, Any], key: Hashable) -> list[str]:
    """Warnings in the meta data (one per line) and in the data, without paths; the most important one first."""
    found = [UNFAMILIAR_WARNING] if data.get("unfamiliar") else []
    meta = _meta(data, key)
    files = str(meta.get("source_files") or "").splitlines()
    for source in (meta.get("warnings"), data.get("warnings")):
        lines = source.splitlines() if isinstance(source, str) else source or []
        sentences = [without_paths(str(line), files, str(data.get("case", "scan"))) for line in lines]
        found += [sentence for sentence in sentences if sentence and sentence not in found]
    return found


def without_paths(text: str, files: Sequence[str], name: str) -> str:
    """Remove the names of files and folders from a sentence about a scan; they often contain a patient's name.

    Args:
        text: for example a warning of the reader.
        files: paths of the scan's files.
        name: replacement for the name of the scan. If there are several files, a file gets its number in ``files``.

    Returns:
        The sentence.

    Example:
        >>> files = ["/pacs/DOE_J/IM1", "/pacs/DOE_J/IM2"]
        >>> without_paths("/pacs/DOE_J: 1 identical copy was dropped (IM2)", files, "case-1f")
        'case-1f: 1 identical copy was dropped (file 2)'
        >>> without_paths("/pacs/DOE_J/notes.dcm: is unreadable", files, "case-1f")
        'case-1f: is unreadable'
    """
    stands_for: dict[str, str] = {}
    folders = dict.fromkeys(os.path.dirname(file) for file in files)
    for number, file in enumerate(files, start=1):
        stands_for[file] = name if len(files) == 1 else f"{name}, file {number} of {len(files)}"
        base = os.path.basename(file)
        # A name that has only digits looks like any other number in the sentence, and does not identify a patient.
        if any(letter.isalpha() for letter in base):
            stands_for.setdefault(base, name if len(files) == 1 else f"file {number}")
    patterns = [rf"(?<![\w.-]){re.escape(known)}(?![\w-])" for known in sorted(stands_for, key=len, reverse=True)]
    # A folder and all names below it. A folder without a parent counts only at the beginning of the sentence.
    patterns += [
        (re.escape(folder) if os.path.dirname(folder) else rf"^{re.escape(folder)}(?=[/\\:])")
        + r"(?:[/\\][^/\\:,;()\n]*)*"
        for folder in sorted(folders, key=len, reverse=True)
        if folder.strip("./\\")
    ]
    if not patterns:
        return text
    return re.sub("|".join(patterns), lambda match: stands_for.get(match[0], name), text)


def software() -> dict[str, str]:
    """Versions of the software that made a result."""
    import monai
    import torch

    return {"monai_zsad": __version__, "monai": monai.__version__, "torch": torch.__version__}


def plain(value: Any, name: str) -> Any:
    """Convert to numbers, texts, lists and dictionaries for JSON; NaN and infinity raise an error with their name."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{name}.{key}") for key, item in value.items()}
    # Arrays and tensors; texts alone need no torch.
    if hasattr(value, "tolist"):
        return plain(value.tolist(), name)
    if isinstance(value, list | tuple):
        return [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise OutputError(f"{name} is {value}: not written; run in float32 (amp off) and check the weights")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
