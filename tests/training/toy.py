"""Small data in the forms of the real sets, for the tests of the included model's training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from PIL import Image

from monai_zsad.synthesis import PrepareAnatomy, SlabSettings
from monai_zsad.training.slices.bank import NormalBank
from monai_zsad.training.slices.tumours import TumourSlices

SIZE = 64
KINDS = ("meningioma", "glioma", "pituitary")


def head(side: int, tumour: tuple[int, int] | None = None, *, level: int = 230) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric head (side, side), uint8, with a tumour at a place, and its mask."""
    rows, columns = (np.indices((side, side)) - (side - 1) / 2) / (side / 2)
    body = (rows / 0.85) ** 2 + (columns / 0.7) ** 2 < 1
    folds = 110 + 25 * np.cos(9 * rows) * np.cos(11 * columns)
    image = np.where(body, folds, 0)
    mask = np.zeros((side, side), bool)
    if tumour is not None:
        y, x = np.indices((side, side))
        mask = (y - tumour[0]) ** 2 + (x - tumour[1]) ** 2 < (side / 12) ** 2
        image = np.where(mask, level, image)
    return image.astype(np.uint8), mask


def write_tumours(folder: Path, blocks: int = 5, each: int = 3) -> Path:
    """Slices of all kinds in blocks, as ``read_tumour_slices`` reads them."""
    for name in ("image", "mask"):
        (folder / name).mkdir(parents=True)
    rows = []
    for number in range(1, blocks * each + 1):
        image, mask = head(96, (40 + number % 5, 30 + number % 3))
        Image.fromarray(image).save(folder / "image" / f"{number}_a.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "mask" / f"{number}_a.png")
        rows.append({"number": number, "class": KINDS[number % 3], "block": (number - 1) // each})
    with (folder / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["number", "class", "block"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_volumes(folder: Path, patients: int = 3) -> Path:
    """Volumes with a tumour in two of four slices, as ``read_tumour_volumes`` reads them."""
    folder.mkdir(parents=True)
    plain, tumour = head(96), head(96, (40, 30))
    for number in range(1, patients + 1):
        for name, part in (("", 0), ("_mask", 1)):
            # Axes of the files point to left, posterior and superior.
            stack = np.stack([one[part].T.astype(np.uint8) for one in (plain, tumour, tumour, plain)], -1)
            file = folder / f"{number:02d}{name}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(stack, np.diag([-1.0, -1.0, 5.0, 1.0])), file)
    return folder


def write_scan(file: Path) -> Path:
    """A round head with soft structure, 4 mm."""
    grid = np.indices((44, 48, 24)) - np.array([21.5, 23.5, 11.5]).reshape(3, 1, 1, 1)
    inside = (grid**2 / np.array([19, 21, 10]).reshape(3, 1, 1, 1) ** 2).sum(0) < 1
    image = np.where(inside, 400 + 100 * np.cos(0.5 * grid).mean(0), 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 5, image.shape)
    nibabel.save(nibabel.Nifti1Image((image + noise).astype(np.int16), np.diag([-4.0, -4.0, 4.0, 1.0])), file)
    return file


def tumour_slices(count: int = 12, size: int = SIZE, **levels: int) -> TumourSlices:
    """Tumour slices in six blocks; ``levels``: brightness of all slices of a kind, or of those ``held_out``."""
    pairs = [head(size, (20 + n % 4, 20 + n % 3)) for n in range(count)]
    images, masks = np.stack([one for one, _ in pairs]), np.stack([one for _, one in pairs]).astype(np.uint8) * 255
    kinds, groups = np.array(KINDS)[np.arange(count) % 3], np.arange(count) // 2
    slices = TumourSlices(images, masks, kinds, groups, groups % 5 == 4)
    for name, level in levels.items():
        images[slices.held_out if name == "held_out" else kinds == name] = level
    return slices


def volume(sequences: int = 1, level: float = 0.4, **settings: Any) -> dict[str, Any]:
    """A round body with soft structure, as an item of a bank."""
    grid = np.indices((32, 32, 20)) - np.array([15.5, 15.5, 9.5]).reshape(3, 1, 1, 1)
    inside = (grid**2 / np.array([15, 14, 9.5]).reshape(3, 1, 1, 1) ** 2).sum(0) < 1
    soft = level + 0.1 * np.cos(0.5 * grid).mean(0)
    images = np.stack([np.where(inside, soft * (1 - 0.2 * k), 0) for k in range(sequences)])
    return {"anatomy": PrepareAnatomy(depth_mm=1)(torch.from_numpy(images.astype(np.float32))), **settings}


def filled_bank(folder: Path, count: int = 6, **settings: Any) -> NormalBank:
    bank = NormalBank(
        [volume(), volume(3, bare=True)], count, folder, size=SIZE, slabs=SlabSettings(gap_mm=(1.0, 2.0)), **settings
    )
    bank.fill()
    return bank


def outlined_bank(folder: Path, count: int = 8) -> NormalBank:
    """Slabs of a dim body with an outlined bright ball in the middle."""
    grid = np.indices((32, 32, 20)) - np.array([15.5, 15.5, 9.5]).reshape(3, 1, 1, 1)
    inside = (grid**2 / np.array([15, 14, 9.5]).reshape(3, 1, 1, 1) ** 2).sum(0) < 1
    ball = (grid**2).sum(0) < 16
    image = np.where(ball, 0.9, np.where(inside, 0.3 + 0.05 * np.cos(0.5 * grid).mean(0), 0)).astype(np.float32)
    anatomy = PrepareAnatomy(depth_mm=1)(torch.from_numpy(image[None]), outlines=torch.from_numpy(ball[None]).float())
    settings = SlabSettings(gap_mm=(1.0, 2.0), planes=(("axial", 1.0),), central=1.0)
    bank = NormalBank([{"anatomy": anatomy}], count, folder, size=SIZE, slabs=settings)
    bank.fill()
    return bank
