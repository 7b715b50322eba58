"""Small labelled data sets in the field's layouts: textured pictures with bright or dark spots of known place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

SIZE = 64


def picture(rng: np.random.Generator, anomalous: bool, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Grey texture (size, size) of 8 bits and its mask; an anomaly is a bright square."""
    values = rng.normal(90, 12, (size, size))
    mask = np.zeros((size, size), np.uint8)
    if anomalous:
        side = int(rng.integers(size // 4, size // 2))
        row, column = rng.integers(0, size - side, 2)
        mask[row : row + side, column : column + side] = 255
        values[mask > 0] += 110
    return np.clip(values, 0, 255).astype(np.uint8), mask


def _save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def make_mvtec(root: Path, classes: tuple[str, ...] = ("bolt",), count: int = 4, seed: int = 0) -> Path:
    """MVTec-AD's layout: ``count`` normal and ``count`` anomalous test images of each class."""
    rng = np.random.default_rng(seed)
    for name in classes:
        for index in range(count):
            _save(picture(rng, False)[0], root / name / "train" / "good" / f"{index:03}.png")
            _save(picture(rng, False)[0], root / name / "test" / "good" / f"{index:03}.png")
            values, mask = picture(rng, True)
            _save(values, root / name / "test" / "spot" / f"{index:03}.png")
            _save(mask, root / name / "ground_truth" / "spot" / f"{index:03}_mask.png")
    return root


def make_visa(root: Path) -> Path:
    rng = np.random.default_rng(1)
    for index in range(2):
        _save(picture(rng, False)[0], root / "candle" / "Data" / "Images" / "Normal" / f"{index:04}.JPG")
        values, mask = picture(rng, True)
        _save(values, root / "candle" / "Data" / "Images" / "Anomaly" / f"{index:03}.JPG")
        _save(mask, root / "candle" / "Data" / "Masks" / "Anomaly" / f"{index:03}.png")
    return root


def make_bmad(root: Path) -> Path:
    rng = np.random.default_rng(2)
    for part in ("valid", "test"):
        for index in range(2):
            _save(picture(rng, False)[0], root / part / "good" / "img" / f"{index}.png")
            values, mask = picture(rng, True)
            _save(values, root / part / "Ungood" / "img" / f"{index}.png")
            _save(mask, root / part / "Ungood" / "label" / f"{index}.png")
    return root


def make_meta(root: Path) -> Path:
    """``meta.json`` beside the files of :func:`make_mvtec`."""
    make_mvtec(root, ("bolt",), 2)
    items = []
    for kind, anomaly in (("good", 0), ("spot", 1)):
        for index in range(2):
            mask = f"bolt/ground_truth/{kind}/{index:03}_mask.png" if anomaly else ""
            items.append(
                {
                    "img_path": f"bolt/test/{kind}/{index:03}.png",
                    "mask_path": mask,
                    "cls_name": "bolt",
                    "specie_name": kind,
                    "anomaly": anomaly,
                }
            )
    (root / "meta.json").write_text(json.dumps({"train": {}, "test": {"bolt": items}}))
    return root


def make_volumes(root: Path, count: int = 3, ending: str = "_mask") -> Path:
    """Volumes of a bright body with brighter spots, and masks beside them."""
    rng = np.random.default_rng(4)
    root.mkdir(parents=True, exist_ok=True)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 36, 12)), indexing="ij"))
    body = (grid**2).sum(0) < 0.8
    for index in range(count):
        values = np.where(body, rng.normal(300, 30, body.shape), 0)
        mask = np.zeros(body.shape, np.uint8)
        row, column, level = rng.integers((12, 12, 3), (22, 20, 7))
        mask[row : row + 6, column : column + 6, level : level + 3] = 1
        values[mask > 0] += 400
        affine = np.diag([2.0, 2.0, 4.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), affine), root / f"case{index}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(mask, affine), root / f"case{index}{ending}.nii.gz")
    return root


def make_decathlon(root: Path) -> Path:
    plain = make_volumes(root / "plain", 2)
    for file in sorted(plain.iterdir()):
        name = file.name.replace("_mask", "")
        target = root / ("labelsTr" if "_mask" in file.name else "imagesTr") / name
        target.parent.mkdir(exist_ok=True)
        shutil.move(file, target)
    plain.rmdir()
    return root
