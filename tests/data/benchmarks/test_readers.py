"""Every set is read from its own folders, from the releases' list, and not from anything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from monai.data import DataLoader, Dataset
from monai.transforms import Compose

from monai_zsad.data.benchmarks import get_benchmark, read_benchmark
from monai_zsad.data.benchmarks.transforms import LoadMaskd, LoadPictured
from monai_zsad.errors import ConfigurationError, InputError
from tests.data.benchmarks.miniature import MAKERS, anomalous, bmad_repackaged, normal, save, write_meta
from tests.data.labelled import make_decathlon, make_mvtec, make_volumes

PICTURES = sorted(set(MAKERS) - {"volumes"})


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_set_is_read(name: str, tmp_path: Path) -> None:
    make, normal_count, abnormal_count = MAKERS[name]
    make(tmp_path)
    records = read_benchmark(name, tmp_path)
    labels = [record["label"] for record in records]
    assert (labels.count(0), labels.count(1)) == (normal_count, abnormal_count)
    assert records == read_benchmark(name, tmp_path)
    assert [record["image"] for record in records] == sorted(record["image"] for record in records)
    assert len({record["case"] for record in records}) == len(records)
    entry = get_benchmark(name)
    if entry.classes:
        assert {record["class_name"] for record in records} == set(entry.classes)
    for record in records:
        assert Path(record["image"]).is_file()
        assert "train" not in Path(record["case"]).parts
        assert (record["mask"] is not None) == (record["label"] == 1 and entry.has_masks)
        assert record["benchmark"] == name
        if record["mask"]:
            assert Path(record["mask"]).is_file()
            assert Path(record["mask"]).stem.startswith(Path(record["image"]).name.split(".")[0])


@pytest.mark.parametrize("name", PICTURES)
def test_the_releases_list_is_read_first(name: str, tmp_path: Path) -> None:
    MAKERS[name][0](tmp_path)
    records = read_benchmark(name, tmp_path)
    write_meta(tmp_path, records[1:])
    assert read_benchmark(name, tmp_path) == records[1:]
    assert len(read_benchmark(name, tmp_path, layout=get_benchmark(name).layouts[0])) == len(records)


def test_classes_of_releases_are_those_of_the_set(tmp_path: Path) -> None:
    # AdaCLIP calls it "headct", AnomalyCLIP "brain".
    normal(tmp_path / "headct" / "test" / "good" / "000.png")
    normal(tmp_path / "headct" / "test" / "defect" / "001.png")
    records = read_benchmark("headct", tmp_path)
    assert [(record["class_name"], record["label"]) for record in records] == [("brain", 1), ("brain", 0)]
    assert {record["prompt_name"] for record in records} == {"brain"}


@pytest.mark.parametrize(("name", "ending"), [("dagm", "_label.PNG"), ("isic", "_Segmentation.png"), ("tn3k", ".jpg")])
def test_masks_of_releases_keep_their_names(name: str, ending: str, tmp_path: Path) -> None:
    folder = tmp_path / get_benchmark(name).classes[0].lower()
    for stem in ("0001", "0002"):
        anomalous(folder / "test" / "defect" / f"{stem}.jpg", folder / "ground_truth" / "defect" / f"{stem}{ending}")
    records = read_benchmark(name, tmp_path, layout="mvtec")
    assert [Path(record["mask"]).name for record in records] == [f"0001{ending}", f"0002{ending}"]
    assert records[0]["class_name"] == get_benchmark(name).classes[0]


def test_list_with_capital_parts(tmp_path: Path) -> None:
    MAKERS["dagm"][0](tmp_path)
    records = read_benchmark("dagm", tmp_path)
    write_meta(tmp_path, records, part="Test")
    assert read_benchmark("dagm", tmp_path) == records


@pytest.mark.parametrize("name", PICTURES)
def test_records_suit_a_dataset(name: str, tmp_path: Path) -> None:
    MAKERS[name][0](tmp_path)
    records = read_benchmark(name, tmp_path)
    loaded = Dataset(records[:4], Compose([LoadPictured("image", 14), LoadMaskd("mask", 14)]))
    for batch in DataLoader(loaded, batch_size=2):
        assert batch["image"].shape[1:] == (3, 14, 14)
        outlined = batch["mask"].flatten(1).amax(1) > 0
        assert outlined.tolist() == [bool(label) and get_benchmark(name).has_masks for label in batch["label"]]


@pytest.mark.parametrize("part", ["valid", "val"])
@pytest.mark.parametrize("name", [name for name in PICTURES if name.startswith("bmad")])
def test_validation_part_of_bmad(name: str, part: str, tmp_path: Path) -> None:
    MAKERS[name][0](tmp_path)
    records = read_benchmark(name, tmp_path, part=part)
    assert [record["label"] for record in records] in ([0, 1], [1, 0])
    assert all("/val" in record["image"].lower() for record in records)


def test_bmad_as_others_hand_it_on(tmp_path: Path) -> None:
    bmad_repackaged(tmp_path / "Brain_AD")
    records = read_benchmark("bmad-brain", tmp_path)
    assert [record["label"] for record in records] == [1, 0]
    assert records[0]["mask"].endswith("test/Ungood/anomaly_mask/2.png")


def test_training_part(tmp_path: Path) -> None:
    MAKERS["visa"][0](tmp_path)
    records = read_benchmark("visa", tmp_path, part="train")
    assert len(records) == 12
    assert not any(record["label"] for record in records)
    with pytest.raises(InputError, match="in its part 'train'"):
        read_benchmark("headct", tmp_path, part="train")
    with pytest.raises(ConfigurationError, match="has no parts"):
        read_benchmark("headct", tmp_path, part="train", layout="head_ct")


def test_visa_needs_its_split(tmp_path: Path) -> None:
    MAKERS["visa"][0](tmp_path)
    table = tmp_path / "split_csv" / "1cls.csv"
    text = table.read_text()
    table.unlink()
    with pytest.raises(InputError, match=r"1cls\.csv is missing"):
        read_benchmark("visa", tmp_path)
    table.write_text(text.replace("object", "thing"))
    with pytest.raises(InputError, match="no column 'object'"):
        read_benchmark("visa", tmp_path)


def test_volumes_in_a_table(tmp_path: Path) -> None:
    make_volumes(tmp_path / "scans", 2)
    table = tmp_path / "pairs.csv"
    table.write_text(
        "Image,Mask,Class\n"
        "scans/case1.nii.gz,scans/case1_mask.nii.gz,liver\n"
        f"{tmp_path / 'scans' / 'case0.nii.gz'},,liver\n"
    )
    first, second = read_benchmark("volumes", table)
    assert (first["label"], first["mask"]) == (0, None)
    assert second["label"] == 1
    assert {Path(record["image"]).name for record in (first, second)} == {"case0.nii.gz", "case1.nii.gz"}
    assert second["class_name"] == "liver"


@pytest.mark.parametrize("text", ["", "image,mask\n", "scan,mask\na.nii.gz,\n", "image\na.nii.gz\n"])
def test_tables_that_cannot_be_used(text: str, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=r"pairs\.csv"):
        read_benchmark("volumes", table)


def test_volumes_of_other_formats(tmp_path: Path) -> None:
    import itk

    for name, value in (("a", 0), ("b", 1)):
        values = np.zeros((5, 6, 7), np.uint8)
        values[2] = value
        itk.imwrite(itk.image_from_array(values), str(tmp_path / f"{name}_seg.nrrd"))
        itk.imwrite(itk.image_from_array(values.astype(np.int16)), str(tmp_path / f"{name}.nrrd"))
    assert [record["label"] for record in read_benchmark("volumes", tmp_path)] == [0, 1]


def test_empty_mask_is_a_normal_volume(tmp_path: Path) -> None:
    import nibabel

    make_decathlon(tmp_path)
    file = tmp_path / "labelsTr" / "case0.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((40, 36, 12), np.uint8), np.eye(4)), file)
    assert [record["label"] for record in read_benchmark("volumes", tmp_path)] == [0, 1]
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(InputError, match=r"case0\.nii\.gz: cannot be read"):
        read_benchmark("volumes", tmp_path)


@pytest.mark.parametrize("name", [name for name in PICTURES if get_benchmark(name).has_masks])
def test_missing_masks_are_refused(name: str, tmp_path: Path) -> None:
    MAKERS[name][0](tmp_path)
    mask = next(Path(record["mask"]) for record in read_benchmark(name, tmp_path) if record["mask"])
    mask.unlink()
    if name == "dagm":
        # Without its mask an image of DAGM is a normal one: only the numbers tell.
        assert sum(record["label"] for record in read_benchmark(name, tmp_path)) == 9
        return
    with pytest.raises(InputError, match=rf"has no mask .* datasets check {name}"):
        read_benchmark(name, tmp_path)


def test_missing_images_are_refused(tmp_path: Path) -> None:
    MAKERS["headct"][0](tmp_path)
    (tmp_path / "head_ct" / "head_ct" / "001.png").unlink()
    with pytest.raises(InputError, match=r"001\.png is listed in"):
        read_benchmark("headct", tmp_path)
    (tmp_path / "labels.csv").write_text("id, hemorrhage\nzero, one\n")
    with pytest.raises(InputError, match=r"labels\.csv is damaged"):
        read_benchmark("headct", tmp_path)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_other_folders_are_refused(name: str, tmp_path: Path) -> None:
    save(tmp_path / "holiday" / "beach.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError) as caught:
        read_benchmark(name, tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "expected: " in message
    assert "give the folder that directly holds" in message
    assert (get_benchmark(name).homepage or "") in message
    with pytest.raises(InputError, match="is not a folder"):
        read_benchmark(name, tmp_path / "nowhere")


def test_another_set_in_the_same_layout_is_refused(tmp_path: Path) -> None:
    MAKERS["mpdd"][0](tmp_path)
    with pytest.raises(InputError, match=r"holds bracket_black, .* not classes of VisA \(candle, "):
        read_benchmark("visa", tmp_path)
    # Some classes of a set are enough.
    for name in ("tubes", "connector"):
        shutil.rmtree(tmp_path / name)
    assert len(read_benchmark("mpdd", tmp_path)) == 8


def test_layout_has_to_be_one_of_the_set(tmp_path: Path) -> None:
    make_mvtec(tmp_path, ("bolt",), 1)
    with pytest.raises(ConfigurationError, match="choose auto, meta, mvtec"):
        read_benchmark("mvtec-ad", tmp_path, layout="bmad")


def test_hidden_files_are_not_looked_at(tmp_path: Path) -> None:
    MAKERS["kvasir"][0](tmp_path)
    (tmp_path / "images" / "._ISIC_0.jpg").write_bytes(b"")
    assert len(read_benchmark("kvasir", tmp_path)) == 2
