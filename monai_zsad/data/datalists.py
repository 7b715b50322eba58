"""Training data: images or volumes with masks, found in the folder layouts in which data sets are distributed."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.studies import IMAGE_SUFFIXES
from monai_zsad.errors import ConfigurationError, InputError

__all__ = ["LAYOUTS", "PICTURE_SUFFIXES", "are_volumes", "find_labelled", "split_cases"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Endings (lower case) of the files that are taken as pictures."""

Record = dict[str, Any]
_NORMAL = {"good", "normal", "ok"}
_MASK_ENDINGS = ("_mask", "_seg", "_segmentation", "_lesion", "_lesions", "_label", "_gt")

LAYOUTS: dict[str, str] = {
    "meta": "meta.json with {part: {class: [{img_path, mask_path, anomaly, ...}]}} (Crane, AdaCLIP)",
    "mvtec": "CLASS/test/{good,DEFECT}/*.png, CLASS/ground_truth/DEFECT/*_mask.png (MVTec-AD, MPDD, BTAD)",
    "visa": "CLASS/Data/Images/{Normal,Anomaly}/*, CLASS/Data/Masks/Anomaly/*.png (VisA)",
    "bmad": "valid/good/img/*.png, valid/Ungood/img/*.png, valid/Ungood/label/*.png (BMAD)",
    "decathlon": "imagesTr/*.nii.gz, labelsTr/*.nii.gz of the same names (Medical Segmentation Decathlon, nnU-Net)",
    "volumes": "CASE.nii.gz beside CASE_mask.nii.gz (or _seg, _lesion, _lesions, _label, _gt), in any folders",
}
"""Layouts by name, each with the files that it consists of."""


def find_labelled(
    folder: str | os.PathLike[str], layout: str = "auto", parts: Sequence[str] | None = None
) -> list[Record]:
    """List the images or volumes with masks in a folder.

    The methods are trained on the *test* part of an auxiliary data set, since its training part has no anomalies, and
    then applied to other data. Of BMAD the part ``valid`` is taken; its ``test`` is left for evaluation.

    Args:
        folder: of a data set, or of one class of it.
        layout: a key of :data:`LAYOUTS`, or ``"auto"``.
        parts: of the data set, in its own words (``["test"]``, ``["train", "valid"]``); ``None`` as above.

    Returns:
        Records in the order of their paths: ``image`` and ``label`` (paths; ``label`` is ``""`` for a normal image),
        ``anomalous`` (0 or 1; -1 for a volume, whose mask tells), ``name`` (the class in words) and ``case``.

    Raises:
        ConfigurationError: if ``layout`` is unknown.
        InputError: naming the folder and what is expected, if nothing fits, an anomalous image lacks its mask, or
            nothing is labelled.
    """
    root = Path(folder).expanduser()
    if layout not in ("auto", *LAYOUTS):
        raise ConfigurationError(f"layout={layout!r} is unknown: choose auto, {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; training data need one of these layouts: {_described(LAYOUTS)}")
    for name in LAYOUTS if layout == "auto" else [layout]:
        records = sorted(_FINDERS[name](root, parts), key=lambda record: record["image"])
        if records:
            _check(records, root)
            return records
    asked = f" in the parts {', '.join(parts)}" if parts else ""
    wanted = LAYOUTS if layout == "auto" else {layout: LAYOUTS[layout]}
    raise InputError(
        f"{root} holds no labelled images or volumes{asked}; expected one of these layouts: {_described(wanted)}. "
        "Data without masks cannot train these methods: normal images need none, but anomalies have to be outlined, or "
        "be painted into unlabelled scans as synthetic lesions"
    )


def are_volumes(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether records are volumes, of which slices are sampled.

    >>> are_volumes([{"image": "anna.nii.gz"}]), are_volumes([{"image": "000.png"}])
    (True, False)
    """
    return str(records[0]["image"]).lower().endswith(IMAGE_SUFFIXES)


def split_cases(records: Sequence[Record], fraction: float = 0.1, seed: int = 0) -> tuple[list[Record], list[Record]]:
    """Split into training and validation: the same share of every class, normal and anomalous apart.

    Neighbouring slices of one patient are alike: where a data set's images are slices, validate on another folder.

    Args:
        records: see :func:`find_labelled`.
        fraction: for validation, in (0, 1); each class that has two images or more gives at least one.
        seed: of the choice.

    Returns:
        Training and validation records.

    Raises:
        ConfigurationError: if ``fraction`` is outside of (0, 1).
        InputError: if there are too few records to split.

    Example:
        >>> items = [{"name": "liver", "anomalous": i % 2, "case": str(i)} for i in range(20)]
        >>> training, validation = split_cases(items, 0.2)
        >>> len(training), [item["anomalous"] for item in validation]
        (16, [0, 0, 1, 1])
    """
    if not 0 < fraction < 1:
        raise ConfigurationError(f"validation_fraction={fraction!r} must lie between 0 and 1")
    groups = defaultdict(list)
    for record in records:
        groups[record["name"], record["anomalous"]].append(record)
    rng = np.random.default_rng(seed)
    training: list[Record] = []
    validation: list[Record] = []
    for _, group in sorted(groups.items()):
        count = min(max(1, round(fraction * len(group))), len(group) - 1)
        chosen = set(rng.permutation(len(group))[:count].tolist())
        for index, record in enumerate(group):
            (validation if index in chosen else training).append(record)
    if not validation:
        raise InputError(f"{len(records)} labelled cases cannot be split: add data, or give --validation_dir")
    return training, validation


def _check(records: Sequence[Record], root: Path) -> None:
    lacking = [record["image"] for record in records if record["anomalous"] == 1 and not record["label"]]
    if lacking:
        raise InputError(
            f"{lacking[0]} is filed as anomalous but has no mask ({len(lacking)} such images in {root}): training "
            "needs the anomalies outlined. Remove these images, or give a data set with masks; images without masks "
            "can only be scored, with prompts or adapters that were trained elsewhere"
        )
    if not any(record["anomalous"] for record in records):
        raise InputError(
            f"{root} holds {len(records)} normal images and none that is anomalous: training needs both. A data set's "
            "training part is often normal only; name another by --parts"
        )


def _described(layouts: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {files}" for name, files in layouts.items())


def _record(image: Path, label: Path | None, anomalous: int, name: str, root: Path) -> Record:
    case = image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name
    return {
        "image": str(image),
        "label": "" if label is None else str(label),
        "anomalous": anomalous,
        "name": name.replace("_", " "),
        "case": case,
    }


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [f for f in sorted(folder.iterdir()) if f.suffix.lower() in PICTURE_SUFFIXES and f.name[0] != "."]


def _mask_of(image: Path, folder: Path) -> Path | None:
    stems = (image.stem, f"{image.stem}_mask")
    return next((f for f in _pictures(folder) if f.stem in stems), None)


def _find_meta(root: Path, parts: Sequence[str] | None) -> Iterator[Record]:
    file = root / "meta.json"
    if not file.is_file():
        return
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        for part in parts or ["test"]:
            for name, items in content.get(part, {}).items():
                for item in items:
                    mask = root / item["mask_path"] if item.get("mask_path") else None
                    yield _record(root / item["img_path"], mask, int(item["anomaly"]), str(name), root)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is damaged or no {LAYOUTS['meta']} ({type(error).__name__}: {error})") from error


def _find_mvtec(root: Path, parts: Sequence[str] | None) -> Iterator[Record]:
    for folder in _classes(root):
        for part in parts or ["test"]:
            for kind in _folders(folder / part):
                normal = kind.name.lower() in _NORMAL
                truth = folder / "ground_truth" / kind.name
                for image in _pictures(kind):
                    mask = None if normal else _mask_of(image, truth)
                    yield _record(image, mask, int(not normal), folder.name, root)


def _find_visa(root: Path, parts: Sequence[str] | None) -> Iterator[Record]:
    del parts
    for folder in _classes(root):
        data = folder / "Data"
        for image in _pictures(data / "Images" / "Normal"):
            yield _record(image, None, 0, folder.name, root)
        for image in _pictures(data / "Images" / "Anomaly"):
            yield _record(image, _mask_of(image, data / "Masks" / "Anomaly"), 1, folder.name, root)


def _find_bmad(root: Path, parts: Sequence[str] | None) -> Iterator[Record]:
    for folder in _classes(root):
        for part in parts or ["valid"]:
            for kind in _folders(folder / part):
                normal = kind.name.lower() in _NORMAL
                for image in _pictures(kind / "img") or _pictures(kind):
                    mask = None if normal else _mask_of(image, kind / "label")
                    yield _record(image, mask, int(not normal), folder.name, root)


def _find_decathlon(root: Path, parts: Sequence[str] | None) -> Iterator[Record]:
    del parts
    labels = {file.name: file for file in _volumes(root / "labelsTr")}
    for image in _volumes(root / "imagesTr"):
        # nnU-Net numbers the channels of a case: only the first is a scan of its own name.
        label = labels.get(image.name) or labels.get(image.name.replace("_0000.", "."))
        if label is not None:
            yield _record(image, label, -1, root.name, root)


def _find_volumes(root: Path, parts: Sequence[str] | None) -> Iterator[Record]:
    del parts
    files = {(file.parent, _stem(file)): file for file in root.rglob("*") if _is_volume(file)}
    for (folder, stem), file in files.items():
        masks = [files[folder, stem + ending] for ending in _MASK_ENDINGS if (folder, stem + ending) in files]
        if masks:
            yield _record(file, masks[0], -1, root.name, root)


def _classes(root: Path) -> list[Path]:
    """The classes of a data set; a folder that is one class itself stands for itself."""
    return [root, *_folders(root)]


def _folders(folder: Path) -> list[Path]:
    return [f for f in sorted(folder.iterdir()) if f.is_dir() and f.name[0] != "."] if folder.is_dir() else []


def _volumes(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if _is_volume(file)] if folder.is_dir() else []


def _is_volume(file: Path) -> bool:
    return file.name[0] != "." and file.name.lower().endswith(IMAGE_SUFFIXES)


def _stem(file: Path) -> str:
    ending = max((suffix for suffix in IMAGE_SUFFIXES if file.name.lower().endswith(suffix)), key=len)
    return file.name[: -len(ending)]


_FINDERS: dict[str, Callable[[Path, Sequence[str] | None], Iterator[Record]]] = {
    "meta": _find_meta,
    "mvtec": _find_mvtec,
    "visa": _find_visa,
    "bmad": _find_bmad,
    "decathlon": _find_decathlon,
    "volumes": _find_volumes,
}
