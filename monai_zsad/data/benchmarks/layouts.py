"""Folder layouts in which labelled images and volumes are distributed, with one finder for each.

MONAI's ``load_decathlon_datalist`` and ``create_dataset`` were not enough: they read their own lists, but not the
layouts of this field (classes, parts, kinds of defects, masks with other names).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_zsad.data.benchmarks.trees import (
    MASK_ENDINGS,
    Found,
    child,
    folders,
    images_in,
    is_volume,
    mask_of,
    masks_in,
    part_of,
    stem_of,
    volumes,
)
from monai_zsad.errors import InputError

__all__ = ["KNOWN_LAYOUTS", "Layout"]

_TABLE = "a CSV file with the columns image, mask (empty for a normal scan) and optionally class"
_NORMAL = ("good", "normal", "ok")
_PAIRS = (
    ("images", "masks"),
    ("Original", "Ground Truth"),
    ("test-image", "test-mask"),
    ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
)
# Names of the folder with masks in the releases of BMAD, in lower case.
_MASK_FOLDERS = ("label", "anomaly_mask")


@dataclass(frozen=True)
class Layout:
    """A layout and its finder.

    Attributes:
        files: its files, for messages.
        find: lists the images of a folder in the given parts of the data set, or in its usual part for ``None``. It
            finds nothing if the folder has another layout.
        has_parts: whether it has separate training and test parts.
    """

    files: str
    find: Callable[[Path, Sequence[str] | None], Iterator[Found]]
    has_parts: bool = False


def _find_meta(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    file = root / "meta.json"
    if not file.is_file():
        return
    try:
        # The list of DAGM by AnomalyCLIP has the key "Test", all others have "test".
        content = {key.lower(): value for key, value in json.loads(file.read_text(encoding="utf-8")).items()}
        for part in parts or ["test"]:
            for name, items in content.get(part.lower(), {}).items():
                for item in items:
                    mask = root / item["mask_path"] if item.get("mask_path") else None
                    yield Found(root / item["img_path"], mask, int(item["anomaly"]), str(name))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{file} is damaged or is not a {KNOWN_LAYOUTS['meta'].files} ({reason}); copy it again"
        ) from error


def _find_mvtec(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    for folder in (root, *folders(root)):
        for part in parts or ["test"]:
            for kind in folders(part_of(folder, part)):
                normal = kind.name.lower() in _NORMAL
                masks = {} if normal else masks_in(folder / "ground_truth" / kind.name)
                for image in images_in(kind):
                    yield Found(image, mask_of(image, masks), int(not normal), folder.name)


def _find_visa(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    table = root / "split_csv" / "1cls.csv"
    if table.is_file():
        yield from _visa_split(table, parts or ["test"])
        return
    for folder in (root, *folders(root)):
        data = folder / "Data"
        normal, anomalous = images_in(data / "Images" / "Normal"), images_in(data / "Images" / "Anomaly")
        if parts and (normal or anomalous):
            raise InputError(f"{table} is missing: it lists the images of the {parts[0]} part of VisA; copy it there")
        masks = masks_in(data / "Masks" / "Anomaly")
        yield from (Found(image, None, 0, folder.name) for image in normal)
        yield from (Found(image, mask_of(image, masks), 1, folder.name) for image in anomalous)


def _visa_split(table: Path, parts: Sequence[str]) -> Iterator[Found]:
    root = table.parents[1]
    try:
        for row in _rows(table):
            if row["split"] in parts:
                anomalous = row["label"] == "anomaly"
                mask = root / row["mask"] if anomalous and row["mask"] else None
                yield Found(root / row["image"], mask, int(anomalous), row["object"])
    except KeyError as error:
        raise InputError(f"{table} has no column {error}; copy it again from the VisA archive") from error


def _find_bmad(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    for folder in _bmad_sets(root, 2):
        for part in parts or ["test"]:
            for images, masks, kind in _bmad_kinds(part_of(folder, part)):
                normal = kind.lower() in _NORMAL
                known = {} if normal or masks is None else masks_in(masks)
                for image in images_in(images):
                    yield Found(image, mask_of(image, known), int(not normal), folder.name)


def _bmad_sets(folder: Path, depth: int) -> Iterator[Path]:
    if any(part_of(folder, part) for part in ("test", "valid", "train")):
        yield folder
    elif depth:
        for inner in folders(folder):
            yield from _bmad_sets(inner, depth - 1)


def _bmad_kinds(part: Path | None) -> Iterator[tuple[Path, Path | None, str]]:
    """Images, masks and kind of each folder of a part; the releases of BMAD use three different structures."""
    if part is None:
        return
    nested = child(part, part.name)
    images = nested or child(part, "img")
    if images is not None:
        masks = child(part, f"{part.name}_label" if nested else "label")
        for kind in folders(images):
            yield kind, child(masks, kind.name), kind.name
        return
    for kind in folders(part):
        yield child(kind, "img") or kind, child(kind, *_MASK_FOLDERS), kind.name


def _find_dagm(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    for folder in (root, *folders(root)):
        for part in parts or ["test"]:
            images = part_of(folder, part)
            labels = child(images, "Label")
            if images is None or labels is None:
                continue
            masks = masks_in(labels)
            for image in images_in(images):
                mask = mask_of(image, masks)
                yield Found(image, mask, int(mask is not None), folder.name)


def _find_kolektor(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    del parts
    for folder in folders(root):
        if folder.name.lower().startswith("kos"):
            masks = masks_in(folder)
            for image in images_in(folder):
                if not image.stem.lower().endswith("_label"):
                    yield Found(image, masks.get(f"{image.stem.lower()}_label"), -1, root.name)


def _find_pairs(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    del parts
    for images, labels in _PAIRS:
        folder, masks = child(root, images), child(root, labels)
        if folder is not None and masks is not None:
            known = masks_in(masks)
            yield from (Found(image, mask_of(image, known), 1, root.name) for image in images_in(folder))
            return


def _find_yes_no(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    del parts
    # The archive of BrainMRI contains the two folders twice.
    folder = child(root, "brain_tumor_dataset") or root
    no, yes = child(folder, "no"), child(folder, "yes")
    if no is not None and yes is not None:
        yield from (Found(image, None, 0, root.name) for image in images_in(no))
        yield from (Found(image, None, 1, root.name) for image in images_in(yes))


def _find_head_ct(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    del parts
    table = root / "labels.csv"
    outer = child(root, "head_ct")
    if not table.is_file() or outer is None:
        return
    folder = child(outer, "head_ct") or outer
    try:
        for row in _rows(table):
            number, label = list(row.values())[:2]
            yield Found(folder / f"{int(number):03}.png", None, int(label), root.name)
    except ValueError as error:
        raise InputError(f"{table} is damaged ({error}): it must have two columns of numbers; copy it again") from error


def _find_decathlon(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    del parts
    labels = {file.name: file for file in volumes(root / "labelsTr")}
    for image in volumes(root / "imagesTr"):
        # nnU-Net numbers the channels of a case; the first channel is taken.
        label = labels.get(image.name) or labels.get(image.name.replace("_0000.", "."))
        if label is not None:
            yield Found(image, label, -1, root.name)


def _find_volumes(root: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    del parts
    files = {(file.parent, stem_of(file)): file for file in sorted(root.rglob("*")) if is_volume(file)}
    for (folder, stem), file in files.items():
        masks = [files[folder, stem + ending] for ending in MASK_ENDINGS if (folder, stem + ending) in files]
        if masks:
            yield Found(file, masks[0], -1, root.name)


def _find_table(table: Path, parts: Sequence[str] | None) -> Iterator[Found]:
    del parts
    if not table.is_file():
        return
    number = 1
    for number, row in enumerate(_rows(table), start=2):
        if not row.get("image") or "mask" not in row:
            raise InputError(f"{table}, line {number}: there is no image, or no column for masks; give {_TABLE}")
        mask = table.parent / Path(row["mask"]).expanduser() if row["mask"] else None
        image = table.parent / Path(row["image"]).expanduser()
        yield Found(image, mask, 0 if mask is None else -1, row.get("class") or table.stem)
    if number == 1:
        raise InputError(f"{table} lists no scans; give {_TABLE}")


def _rows(table: Path) -> list[Mapping[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            return [
                {key.strip().lower(): (value or "").strip() for key, value in row.items() if key is not None}
                for row in csv.DictReader(lines)
            ]
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as a CSV file ({error}); copy it again") from error


KNOWN_LAYOUTS: dict[str, Layout] = {
    "meta": Layout(
        "meta.json with {part: {class: [{img_path, mask_path, anomaly, ...}]}} (Crane, AdaCLIP)", _find_meta, True
    ),
    "mvtec": Layout(
        "CLASS/test/{good,DEFECT}/*.png, CLASS/ground_truth/DEFECT/*_mask.png (MVTec-AD, MPDD, BTAD)", _find_mvtec, True
    ),
    "visa": Layout(
        "CLASS/Data/Images/{Normal,Anomaly}/*, CLASS/Data/Masks/Anomaly/*.png, split_csv/1cls.csv (VisA)",
        _find_visa,
        True,
    ),
    "bmad": Layout(
        "valid/good/img/*.png, valid/Ungood/img/*.png, valid/Ungood/label/*.png, the same of test (BMAD)",
        _find_bmad,
        True,
    ),
    "dagm": Layout("CLASS/{Train,Test}/*.PNG, CLASS/{Train,Test}/Label/*_label.PNG (DAGM 2007)", _find_dagm, True),
    "kolektor": Layout("kosNN/PartN.jpg beside kosNN/PartN_label.bmp (KolektorSDD)", _find_kolektor),
    "pairs": Layout(
        "two folders with files of the same names: " + ", ".join(f"'{a}' and '{b}'" for a, b in _PAIRS), _find_pairs
    ),
    "yes_no": Layout("no/* (normal) and yes/* (anomalous) (BrainMRI, Br35H)", _find_yes_no),
    "head_ct": Layout("labels.csv and head_ct/head_ct/NNN.png (HeadCT)", _find_head_ct),
    "table": Layout(_TABLE, _find_table),
    "decathlon": Layout(
        "imagesTr/*.nii.gz, labelsTr/*.nii.gz of the same names (Medical Segmentation Decathlon, nnU-Net)",
        _find_decathlon,
    ),
    "volumes": Layout(
        "CASE.nii.gz beside CASE_mask.nii.gz (or _seg, _lesion, _lesions, _label, _gt), in any folders", _find_volumes
    ),
}
"""Layouts by name."""
