"""Lists of training data: images or volumes with masks, found in the folder layouts of distributed data sets."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.benchmarks.layouts import KNOWN_LAYOUTS
from monai_zsad.data.benchmarks.trees import PICTURE_SUFFIXES, Found
from monai_zsad.data.formats import IMAGE_SUFFIXES
from monai_zsad.errors import ConfigurationError, InputError

__all__ = ["LAYOUTS", "PICTURE_SUFFIXES", "are_volumes", "find_labelled", "split_cases"]

Record = dict[str, Any]

_WITH_MASKS = ("meta", "mvtec", "visa", "bmad", "decathlon", "volumes")

LAYOUTS: dict[str, str] = {name: KNOWN_LAYOUTS[name].files for name in _WITH_MASKS}
"""Layouts by name, each with its files."""


def find_labelled(
    folder: str | os.PathLike[str], layout: str = "auto", parts: Sequence[str] | None = None
) -> list[Record]:
    """List the images or volumes with masks in a folder.

    The methods are trained on the *test* part of an auxiliary data set, because its training part has no anomalies, and
    are then applied to other data. For BMAD, the part ``valid`` is taken, and ``test`` is left for evaluation. For
    VisA, all images are taken if its list of the parts, ``split_csv/1cls.csv``, is missing.

    Args:
        folder: of a data set, or of one class of it.
        layout: a key of :data:`LAYOUTS`, or ``"auto"``.
        parts: of the data set, as it names them (``["test"]``, ``["train", "valid"]``); ``None`` as above.

    Returns:
        Records in the order of their paths: ``image`` and ``label`` (paths; ``label`` is ``""`` for a normal image),
        ``anomalous`` (0 or 1; -1 for a volume, see its mask), ``name`` (the class as text) and ``case``.

    Raises:
        ConfigurationError: if ``layout`` is unknown.
        InputError: if no layout fits, an anomalous image has no mask, or no image is anomalous; it names the folder and
            the expected layouts.
    """
    root = Path(folder).expanduser()
    if layout not in ("auto", *LAYOUTS):
        raise ConfigurationError(f"layout={layout!r} is unknown: choose auto, {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; training data need one of these layouts: {_described(LAYOUTS)}")
    for name in LAYOUTS if layout == "auto" else [layout]:
        usual = ["valid"] if name == "bmad" else None
        found = KNOWN_LAYOUTS[name].find(root, parts or usual)
        records = sorted((_record(item, root) for item in found), key=lambda record: record["image"])
        if records:
            _check(records, root)
            return records
    asked = f" in the parts {', '.join(parts)}" if parts else ""
    wanted = LAYOUTS if layout == "auto" else {layout: LAYOUTS[layout]}
    raise InputError(
        f"{root} holds no labelled images or volumes{asked}; expected one of these layouts: {_described(wanted)}. "
        "Data without masks cannot train these methods: every anomalous image needs a mask (a normal image does not). "
        "Give a data set with masks, or paint synthetic lesions into unlabelled scans"
    )


def are_volumes(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether records are volumes, from which slices are sampled.

    Args:
        records: of a list of training data, with ``image``.

    Returns:
        True for volumes, False for 2D images.

    >>> are_volumes([{"image": "anna.nii.gz"}]), are_volumes([{"image": "000.png"}])
    (True, False)
    """
    return str(records[0]["image"]).lower().endswith(IMAGE_SUFFIXES)


def split_cases(records: Sequence[Record], fraction: float = 0.1, seed: int = 0) -> tuple[list[Record], list[Record]]:
    """Split into training and validation: the same fraction of the normal and of the anomalous images of each class.

    Neighbouring slices of one patient are similar. If the images of a data set are slices, validate on another folder.

    Args:
        records: see :func:`find_labelled`.
        fraction: for validation, in (0, 1); each class with two or more images gives at least one.
        seed: of the random choice.

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
        raise ConfigurationError(f"validation_fraction={fraction!r} must be between 0 and 1")
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
            f"{lacking[0]} is in a folder of anomalous images but has no mask ({len(lacking)} images of this kind in "
            f"{root}). Training needs these masks: remove these images, or give a data set with masks"
        )
    if not any(record["anomalous"] for record in records):
        raise InputError(
            f"{root} holds {len(records)} normal images and no anomalous image, but training needs both. The training "
            "part of a data set often holds only normal images: name another part with --parts"
        )


def _described(layouts: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {files}" for name, files in layouts.items())


def _record(found: Found, root: Path) -> Record:
    image = found.image
    return {
        "image": str(image),
        "label": "" if found.mask is None else str(found.mask),
        "anomalous": found.anomalous,
        "name": found.class_name.replace("_", " "),
        "case": image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name,
    }
