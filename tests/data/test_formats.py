"""What holds for all formats: checks without voxels, names, lists of a folder, and values that are scaled."""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import LoadImage

from monai_zsad.data import ScanReader, find_scans
from monai_zsad.data.discovery.masks import label_count
from monai_zsad.data.formats import FORMATS, IMAGE_SUFFIXES, SLICE_SUFFIXES, format_of, is_volume, packed, why_unread
from monai_zsad.data.value_range import to_float32
from monai_zsad.errors import InputError
from monai_zsad.transforms import BodyMask, ScanIntensityd
from tests.data.odd_inputs import CATALOGUE
from tests.data.odd_inputs.catalogue import AFFINE
from tests.data.samples import write_nifti

SINGLE_FILES = {
    name: case
    for name, case in CATALOGUE.items()
    if case.build.__module__.rpartition(".")[2] in ("nifti", "itk", "other_formats", "misnamed")
}
# Found where the packed data end, or in the voxels.
IN_THE_VOXELS = {"non-finite", "constant", "non-finite-replaced", "looks-like-mask"}


@pytest.mark.parametrize("name", SINGLE_FILES)
def test_a_check_without_voxels_says_what_reading_says(name, tmp_path):
    odd = SINGLE_FILES[name].build(tmp_path)
    found = find_scans(odd.source)[0]["image"] if isinstance(odd.source, Path) else odd.source[0]
    if not isinstance(found, (str, Path)):
        pytest.skip("a DICOM series")
    file, given = Path(found), ScanReader(**odd.options).options
    form = format_of(file)
    if form is None:
        pytest.skip("DICOM")
    try:
        scan, read = form.read(file, given), ""
    except InputError as error:
        scan, read = None, error.code
    try:
        warnings, checked = form.check(file, given), ""
    except InputError as error:
        warnings, checked = [], error.code
    damaged_behind_the_header = packed.packing_of(file) or b"gzip" in file.read_bytes()[:400] or "packed" in name
    if not (damaged_behind_the_header and read in ("damaged", "size-mismatch") and not checked):
        assert checked == read
    if scan is not None:
        left = {repair.code for repair in scan.repairs} - {repair.code for repair in warnings}
        assert left <= {"values-rescaled", "trailing-bytes"}
        if form.geometry is not None:
            shape, spacing = form.geometry(file)
            assert tuple(shape[:3]) == scan.values.shape
            np.testing.assert_allclose(spacing[:3], np.linalg.norm(scan.affine[:3, :3], axis=0), atol=0.01)


def test_endings_of_all_formats():
    assert len(IMAGE_SUFFIXES) == len({*IMAGE_SUFFIXES})
    assert {".nii", ".nii.gz", ".nii.zst", ".hdr", ".img.gz", ".mgz", ".mnc", ".par", ".nrrd", ".mha"} <= {
        *IMAGE_SUFFIXES
    }
    assert {*SLICE_SUFFIXES} <= {suffix for one in FORMATS for suffix in one.suffixes}


@pytest.mark.parametrize("name", ["a.nii.bz2", "a.nii.xz", "a.mgz", "a.hdr", "a.mnc", "a.nii", "a.nii.gz"])
def test_the_name_of_a_case_has_no_ending(name, tmp_path):
    (tmp_path / "other.nii").touch()
    if name == "a.hdr":
        nibabel.save(nibabel.Nifti1Pair(np.zeros((2, 2, 2), "i2"), np.eye(4)), tmp_path / "a.img")
    (tmp_path / name).touch()
    assert [record["case"] for record in find_scans(tmp_path)] == ["a", "other"]


def test_a_pair_is_one_case_and_other_files_are_told_apart(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(np.zeros((2, 2, 2), "i2"), np.eye(4)), tmp_path / "a.img")
    (tmp_path / "envi.hdr").write_text("ENVI\nsamples = 3")
    (tmp_path / "motion.par").write_text("0.1 0.2 0.3")
    (tmp_path / "alone.img").write_bytes(b"\1" * 400)
    (tmp_path / "b.nrrd.gz").touch()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files if is_volume(file)] == ["a.hdr", "a.img"]
    unread = {file.name: why_unread(file) for file in files if not is_volume(file)}
    assert "header" in unread["alone.img"]
    assert "another program" in unread["envi.hdr"]
    assert unread["b.nrrd.gz"] == "unpack it"
    assert unread["motion.par"] == ""
    assert [Path(record["image"]).name for record in find_scans(tmp_path)] == ["a.hdr"]


@pytest.mark.parametrize("ending", [".nii.xz", ".mgz", ".img"])
def test_masks_are_recognised_in_all_formats(ending, tmp_path):
    mask = np.zeros((10, 10, 12), "u1")
    mask[3:6, 4:7, 5:8] = 1
    file = tmp_path / f"a_mask{ending}"
    if ending == ".nii.xz":
        nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / "a.nii")
        file.write_bytes(lzma.compress((tmp_path / "a.nii").read_bytes()))
        (tmp_path / "a.nii").unlink()
    else:
        nibabel.save((nibabel.MGHImage if ending == ".mgz" else nibabel.Nifti1Pair)(mask, AFFINE), file)
    assert label_count(file) == 2
    write_nifti(tmp_path / "scan.nii", shape=(10, 10, 12))
    assert [record["case"] for record in find_scans(tmp_path)] == ["scan"]


def test_without_a_package_its_name_is_said(tmp_path, monkeypatch):
    file = tmp_path / "a.nii.zst"
    file.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    monkeypatch.setattr(packed, "_zstd", lambda: None)
    with pytest.raises(InputError, match=r"backports\.zstd") as caught:
        ScanReader().get_data(file)
    assert caught.value.code == "no-codec"
    CATALOGUE["minc2"].build(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match="h5py") as caught:
        ScanReader().get_data(tmp_path / "a.mnc")
    assert caught.value.code == "no-codec"


def format_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if format_of(file) is not None]


LIGHT = """
import sys
from pathlib import Path
from monai_zsad.data.formats import format_of
from monai_zsad.data.scan import ReadOptions
for name in sys.argv[1:]:
    form = format_of(Path(name))
    form.check(Path(name), ReadOptions())
    form.geometry(Path(name))
print({"torch", "monai", "itk", "h5py"} & {*sys.modules})
"""


def test_a_check_imports_nothing_heavy(tmp_path):
    files = []
    for kind in ("nifti_gz", "nrrd_packed", "metaimage_packed", "mgz", "par_rec"):
        (tmp_path / kind).mkdir()
        CATALOGUE[kind].build(tmp_path / kind)
        files.append(str(format_files(tmp_path / kind)[0]))
    done = subprocess.run([sys.executable, "-c", LIGHT, *files], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def body(shape=(24, 20, 12)) -> np.ndarray:
    """A bright body with a brighter spot, in dark air with noise."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 40, shape).astype("f8")
    values[4:-4, 4:-4, 2:-2] += 600 + rng.integers(0, 200, (shape[0] - 8, shape[1] - 8, shape[2] - 4))
    values[8:11, 8:11, 5:8] += 300
    return values


@pytest.mark.parametrize(("factor", "offset", "dtype"), [
    (2.0**100, 0, "f8"), (2.0**100, 0, "f4"), (2.0**-110, 0, "f4"), (2.0**990, 0, "f8"), (2.0**-1000, 0, "f8"),
    (1, 2.0**30, "f8"), (1, 2.0**30, "i4"), (2.0**60, 2.0**100, "f8"),
])  # fmt: skip
def test_extreme_values_are_seen_as_the_usual_ones(factor, offset, dtype, tmp_path):
    """The body and what the network sees are the same, bit for bit."""
    seen = []
    for number, values in enumerate((body(), (body() * factor + offset).astype(dtype))):
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / f"{number}.nii")
        image = LoadImage(ScanReader(), ensure_channel_first=True)(tmp_path / f"{number}.nii")
        seen.append((BodyMask()(image), ScanIntensityd("image")({"image": image})["image"]))
        assert image.meta["warning_codes"] == ("values-rescaled" if number else "")
    assert 0.2 < float(seen[0][0].float().mean()) < 0.8
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1].as_tensor(), seen[1][1].as_tensor())


def test_a_window_in_hu_needs_values_in_hu(tmp_path):
    nibabel.save(nibabel.Nifti1Image(body() * 2.0**60, AFFINE), tmp_path / "a.nii")
    image = LoadImage(ScanReader(), ensure_channel_first=True)(tmp_path / "a.nii")
    with pytest.raises(InputError, match="HU"):
        ScanIntensityd("image", window="brain")({"image": image})


@pytest.mark.parametrize("values", [
    np.zeros((3, 3), "f8"), np.full((3, 3), np.nan), np.array([np.inf, -np.inf, 1.0]), np.array([5.0]),
    np.array([0.0, 1e-3, 1e9]), np.arange(9, dtype="u8"), np.array([], "f4"),
])  # fmt: skip
def test_other_values_are_only_converted(values):
    converted, repairs = to_float32(values)
    assert converted.dtype == np.float32
    assert repairs == []
    np.testing.assert_array_equal(converted, values.astype("f4"))


@pytest.mark.parametrize(("content", "said"), [
    (b"NRRD0004\ntype: short\n\n", "its header does not state sizes"),
    (b"NRRD0004\ntype: quaternion\ndimension: 3\nsizes: 1 1 1\n\n", r"an unknown type of voxels \(quaternion\)"),
    (b"NRRD0004\n# " + b"x" * (1 << 20), "its header does not end"),
    (b"ObjectType = Image\nNDims = 3\nElementType = MET_OTHER\nElementDataFile = LOCAL\n", "an unknown type of voxels"),
    (b"something else", "no NRRD or MetaImage header"),
])  # fmt: skip
def test_text_headers_say_what_is_wrong(content, said, tmp_path):
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        ScanReader().get_data(tmp_path / "a.nrrd")
    assert caught.value.code == "damaged"
