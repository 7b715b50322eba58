"""What a check of a folder says: numbers, missing masks, files that cannot be read, sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_zsad.data.benchmarks import check_benchmark, get_benchmark, read_benchmark
from monai_zsad.errors import InputError
from tests.data.benchmarks.miniature import MAKERS, make_head_ct, make_polyps, write_meta
from tests.data.labelled import make_volumes


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_numbers_are_compared(name: str, tmp_path: Path) -> None:
    make, normal, abnormal = MAKERS[name]
    make(tmp_path)
    result = check_benchmark(name, tmp_path)
    entry = get_benchmark(name)
    assert result.found == (normal, abnormal, normal + abnormal)
    assert result.expected == (entry.normal, entry.abnormal, entry.images)
    assert result.layout == (entry.layouts[0] if name != "volumes" else "volumes")
    # Only the numbers are wrong in a miniature.
    assert all("expected" in problem for problem in result.problems)
    pairs = list(zip(result.found, result.expected, strict=True))
    told = pairs[:2] if entry.normal is not None else pairs[2:]
    assert len(result.problems) == sum(wanted is not None and wanted != number for number, wanted in told)
    assert set(result.counts) == set(entry.classes) or not entry.classes
    assert json.loads(json.dumps(result.as_dict()))["complete"] == (not result.problems)


@pytest.mark.parametrize("read", [True, False])
def test_complete_sets(read: bool, tmp_path: Path) -> None:
    make_polyps(tmp_path / "cvc", 60)
    make_head_ct(tmp_path / "head", 100)
    assert check_benchmark("cvc-300", tmp_path / "cvc", read=read).problems == ()
    result = check_benchmark("headct", tmp_path / "head", read=read)
    assert result.problems == ()
    assert result.counts == {"brain": (100, 100)}


def test_findings_are_told_apart(tmp_path: Path) -> None:
    make_polyps(tmp_path, 6)
    (tmp_path / "masks" / "0.png").unlink()
    Image.new("L", (16, 16)).save(tmp_path / "masks" / "1.png")
    Image.new("L", (17, 15), 255).save(tmp_path / "masks" / "2.png")
    file = tmp_path / "images" / "3.png"
    file.write_bytes(file.read_bytes()[:80])
    (tmp_path / "masks" / "4.png").write_bytes(b"no picture")
    result = check_benchmark("cvc-300", tmp_path)
    assert result.missing_masks == ("images/0.png",)
    assert result.empty_masks == ("images/1.png",)
    assert result.wrong_sizes == {"images/2.png": "16 x 16, its mask 17 x 15"}
    assert sorted(result.unreadable) == ["images/3.png", "masks/4.png"]
    assert all("copy it again" in reason for reason in result.unreadable.values())
    assert result.found == (0, 6, 6)
    assert result.problems[0] == "anomalous: 6 found, 60 expected"
    assert len(result.problems) == 5
    # Without reading, only what is missing is seen.
    quick = check_benchmark("cvc-300", tmp_path, read=False)
    assert quick.missing_masks == result.missing_masks
    assert (quick.unreadable, quick.wrong_sizes, quick.empty_masks) == ({}, {}, ())


def test_long_lists_are_cut_in_sentences_only(tmp_path: Path) -> None:
    make_polyps(tmp_path, 6)
    for index in range(5):
        (tmp_path / "masks" / f"{index}.png").unlink()
    result = check_benchmark("cvc-300", tmp_path)
    assert len(result.missing_masks) == 5
    assert result.problems[-1].startswith("5 anomalous images without a mask: images/0.png")
    assert result.problems[-1].endswith("; and 2 more")


def test_classes_are_compared(tmp_path: Path) -> None:
    MAKERS["mpdd"][0](tmp_path)
    (tmp_path / "tubes").rename(tmp_path / "pipes")
    result = check_benchmark("mpdd", tmp_path)
    assert result.missing_classes == ("tubes",)
    assert result.unknown_classes == ("pipes",)
    assert result.counts["pipes"] == (1, 1)


def test_listed_images_that_are_not_there(tmp_path: Path) -> None:
    MAKERS["kvasir"][0](tmp_path)
    records = read_benchmark("kvasir", tmp_path)
    write_meta(tmp_path, records)
    Path(records[0]["image"]).unlink()
    result = check_benchmark("kvasir", tmp_path)
    assert result.layout == "meta"
    assert result.missing_images == ("images/ISIC_0.jpg",)
    assert not result.unreadable


def test_releases_with_other_images_are_not_counted(tmp_path: Path) -> None:
    MAKERS["ksdd"][0](tmp_path)
    write_meta(tmp_path, read_benchmark("ksdd", tmp_path))
    result = check_benchmark("ksdd", tmp_path)
    assert (result.layout, result.expected, result.problems) == ("meta", (None, None, None), ())
    assert check_benchmark("ksdd", tmp_path, layout="kolektor").expected == (347, 52, 399)


def test_other_parts_are_not_counted(tmp_path: Path) -> None:
    MAKERS["bmad-brain"][0](tmp_path)
    result = check_benchmark("bmad-brain", tmp_path, part="valid")
    assert result.expected == (None, None, None)
    assert result.problems == ()


def test_masks_that_tell_the_label(tmp_path: Path) -> None:
    MAKERS["ksdd"][0](tmp_path)
    (tmp_path / "kos01" / "Part0_label.bmp").unlink()
    result = check_benchmark("ksdd", tmp_path)
    assert result.missing_masks == ("kos01/Part0.jpg",)
    assert result.empty_masks == ()
    assert result.found == (2, 2, 4)


def test_volumes(tmp_path: Path) -> None:
    import nibabel

    make_volumes(tmp_path, 3)
    mask = tmp_path / "case0_mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((40, 36, 11), np.uint8), np.eye(4)), mask)
    file = tmp_path / "case1.nii.gz"
    file.write_bytes(file.read_bytes()[:1000])
    result = check_benchmark("volumes", tmp_path)
    assert result.wrong_sizes == {"case0.nii.gz": "40 x 36 x 12, its mask 40 x 36 x 11"}
    assert list(result.unreadable) == ["case1.nii.gz"]
    assert result.found == (0, 3, 3)


def test_real_scans_in_a_table(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "ms3d"
    table = tmp_path / "ms3d.csv"
    rows = [f"{folder}/patient{number}_FLAIR.nii.gz,{folder}/patient{number}_lesions.nii.gz" for number in ("07", "19")]
    table.write_text("\n".join(["image,mask", *rows]))
    result = check_benchmark("volumes", table)
    assert result.layout == "table"
    assert result.found == (0, 2, 2)
    assert result.problems == ()


def test_what_cannot_be_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images of MVTec-AD"):
        check_benchmark("mvtec-ad", tmp_path)
