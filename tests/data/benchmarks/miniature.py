"""Small copies of the benchmark sets: a few textured pictures in the folders of each set's archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_zsad.data.benchmarks import get_benchmark
from tests.data.labelled import make_mvtec, make_volumes, picture

SIZE = 16
_rng = np.random.default_rng


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def normal(path: Path) -> None:
    save(path, picture(_rng(0), False, SIZE)[0])


def anomalous(path: Path, mask: Path | None = None) -> None:
    values, outlined = picture(_rng(1), True, SIZE)
    save(path, values)
    if mask is not None:
        save(mask, outlined)


def _like_mvtec(name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        make_mvtec(root, get_benchmark(name).classes, 1)

    return make


def _visa(root: Path) -> None:
    lines = ["object,split,label,image,mask"]
    for name in get_benchmark("visa").classes:
        data = f"{name}/Data"
        for index, part in enumerate(("train", "test")):
            normal(root / data / "Images" / "Normal" / f"{index:04}.JPG")
            lines.append(f"{name},{part},normal,{data}/Images/Normal/{index:04}.JPG,")
        anomalous(root / data / "Images" / "Anomaly" / "000.JPG", root / data / "Masks" / "Anomaly" / "000.png")
        lines.append(f"{name},test,anomaly,{data}/Images/Anomaly/000.JPG,{data}/Masks/Anomaly/000.png")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n")


def _btad(root: Path) -> None:
    for name in ("01", "02", "03"):
        normal(root / name / "train" / "ok" / "0000.bmp")
        normal(root / name / "test" / "ok" / "0001.bmp")
        # The masks of two of the products are PNG files, those of the third are BMP.
        ending = ".bmp" if name == "03" else ".png"
        anomalous(root / name / "test" / "ko" / "0002.bmp", root / name / "ground_truth" / "ko" / f"0002{ending}")


def _ksdd(root: Path) -> None:
    for board in ("kos01", "kos02"):
        normal(root / board / "Part0.jpg")
        save(root / board / "Part0_label.bmp", np.zeros((SIZE, SIZE), np.uint8))
        anomalous(root / board / "Part1.jpg", root / board / "Part1_label.bmp")


def _dagm(root: Path) -> None:
    for name in get_benchmark("dagm").classes:
        for part in ("Train", "Test"):
            folder = root / name / part
            normal(folder / "0001.PNG")
            anomalous(folder / "0002.PNG", folder / "Label" / "0002_label.PNG")
            (folder / "Label" / "Labels.txt").write_text("1\n")


def _brainmri(root: Path) -> None:
    for folder in (root, root / "brain_tumor_dataset"):
        normal(folder / "no" / "1 no.jpeg")
        anomalous(folder / "yes" / "Y1.JPG")


def _br35h(root: Path) -> None:
    normal(root / "no" / "no0.jpg")
    anomalous(root / "yes" / "y0.jpg")
    anomalous(root / "pred" / "pred0.jpg")


def make_head_ct(root: Path, count: int = 1) -> None:
    """HeadCT with ``count`` normal and as many anomalous images; the real one has 100."""
    for index in range(count):
        anomalous(root / "head_ct" / "head_ct" / f"{index:03}.png")
        normal(root / "head_ct" / "head_ct" / f"{count + index:03}.png")
    rows = [f"{index}, {int(index < count)}" for index in range(2 * count)]
    (root / "labels.csv").write_text("\n".join(["id, hemorrhage", *rows]) + "\n")


def _pairs(images: str, masks: str, suffix: str, ending: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for index in range(2):
            anomalous(root / images / f"ISIC_{index}{suffix}", root / masks / f"ISIC_{index}{ending}")

    return make


def make_polyps(root: Path, count: int = 60) -> None:
    """CVC-300; the real one has 60 images."""
    for index in range(count):
        anomalous(root / "images" / f"{index}.png", root / "masks" / f"{index}.png")


def _tn3k(root: Path) -> None:
    _pairs("test-image", "test-mask", ".jpg", ".jpg")(root)
    anomalous(root / "trainval-image" / "0000.jpg", root / "trainval-mask" / "0000.jpg")


def _bmad_brain(root: Path) -> None:
    for part in ("valid", "test"):
        folder = root / "BraTS2021_slice" / part
        normal(folder / "good" / "img" / "00025_99.png")
        anomalous(folder / "Ungood" / "img" / "00124_60.png", folder / "Ungood" / "label" / "00124_60.png")


def bmad_repackaged(root: Path) -> None:
    """The form in which MVFA and AA-CLIP hand on BMAD's sets with masks."""
    for part in ("valid", "test"):
        normal(root / part / "good" / "img" / "1.png")
        folder = root / part / "Ungood"
        anomalous(folder / "img" / "2.png", folder / "anomaly_mask" / "2.png")


def _bmad_liver(root: Path) -> None:
    for part in ("valid", "test"):
        folder = root / "hist_DIY" / part
        normal(folder / "img" / "good" / "1.png")
        anomalous(folder / "img" / "Ungood" / "2.png", folder / "label" / "Ungood" / "2.png")


def _bmad_resc(root: Path) -> None:
    for part in ("Val", "Test"):
        folder, inner = root / "RESC" / part, part.lower()
        normal(folder / inner / "good" / "1.png")
        anomalous(folder / inner / "Ungood" / "2.png", folder / f"{inner}_label" / "Ungood" / "2.png")


def _bmad_plain(valid: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for part in (valid, "test"):
            normal(root / part / "good" / "1.png")
            anomalous(root / part / "Ungood" / "2.png")

    return make


def _volumes(root: Path) -> None:
    make_volumes(root, 2)


MAKERS: dict[str, tuple[Callable[[Path], None], int, int]] = {
    "mvtec-ad": (_like_mvtec("mvtec-ad"), 15, 15),
    "visa": (_visa, 12, 12),
    "mpdd": (_like_mvtec("mpdd"), 6, 6),
    "btad": (_btad, 3, 3),
    "ksdd": (_ksdd, 2, 2),
    "dagm": (_dagm, 10, 10),
    "dtd-synthetic": (_like_mvtec("dtd-synthetic"), 12, 12),
    "brainmri": (_brainmri, 1, 1),
    "headct": (make_head_ct, 1, 1),
    "br35h": (_br35h, 1, 1),
    "isic": (
        _pairs("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth", ".jpg", "_Segmentation.png"),
        0,
        2,
    ),
    "tn3k": (_tn3k, 0, 2),
    "cvc-colondb": (_pairs("images", "masks", ".png", ".png"), 0, 2),
    "cvc-clinicdb": (_pairs("Original", "Ground Truth", ".tif", ".tif"), 0, 2),
    "cvc-300": (make_polyps, 0, 60),
    "kvasir": (_pairs("images", "masks", ".jpg", ".jpg"), 0, 2),
    "bmad-brain": (_bmad_brain, 1, 1),
    "bmad-liver": (_bmad_liver, 1, 1),
    "bmad-resc": (_bmad_resc, 1, 1),
    "bmad-oct17": (_bmad_plain("val"), 1, 1),
    "bmad-chest": (_bmad_plain("val"), 1, 1),
    "bmad-histopathology": (_bmad_plain("valid"), 1, 1),
    "volumes": (_volumes, 0, 2),
}
"""Set to what makes its copy, and the normal and anomalous images in the copy's test part."""


def write_meta(root: Path, records: list[dict[str, Any]], part: str = "test") -> None:
    """``meta.json`` of the methods' releases, with the given images."""
    content: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        mask = "" if record["mask"] is None else Path(record["mask"]).relative_to(root).as_posix()
        content.setdefault(record["class_name"], []).append(
            {
                "img_path": Path(record["image"]).relative_to(root).as_posix(),
                "mask_path": mask,
                "cls_name": record["class_name"],
                "specie_name": "",
                "anomaly": record["label"],
            }
        )
    (root / "meta.json").write_text(json.dumps({"train": {}, part: content}))
