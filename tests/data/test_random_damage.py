"""300 truncations and flipped bits: each is refused, or every voxel keeps its place and value.

Some formats have no checksum. A flipped bit in a voxel is then another voxel, and one in a digit is another number; no
reader can tell. These cases are counted apart, and their effect is bounded: one voxel, the codestream of one slice, or
the number that was changed.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from monai_zsad.data import REFUSALS, ScanReader, find_scans
from monai_zsad.errors import InputError
from tests.data.odd_inputs.catalogue import LPS_TO_RAS, Truth, series_truth, volume_truth
from tests.data.odd_inputs.field_compressed import jpeg_2000, put, stored
from tests.data.samples import CT, write_series

VALUES = np.random.default_rng(8).integers(-500, 3000, (64, 48, 20)).astype("<i2")
GEOMETRY = LPS_TO_RAS @ np.array([[1, 0, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])


@dataclass
class Target:
    """A scan, the file that is damaged, and what no reader can notice.

    Attributes:
        source: what is searched for scans.
        file: that is damaged.
        truth: of the scan.
        voxels: bytes of voxels that are under no checksum.
        numbers: bytes of numbers that stand in no second place.
        most_changed: voxels that one of the ``voxels`` may change.
    """

    source: Path
    file: Path
    truth: Truth
    voxels: range = range(0)
    numbers: list[range] = field(default_factory=list)
    most_changed: int = 1


def spans(whole: bytes, *marks: bytes) -> list[range]:
    """From each mark to the end of its line."""
    starts = [whole.index(mark) + len(mark) for mark in marks]
    return [range(start, whole.index(b"\n", start)) for start in starts]


def nifti(folder: Path, name: str) -> Target:
    image = nibabel.Nifti1Image(VALUES, GEOMETRY)
    image.set_qform(GEOMETRY, 1)
    nibabel.save(image, folder / name)
    target = Target(folder, folder / name, volume_truth(VALUES, image.affine))
    if name.endswith(".nii"):
        target.voxels = range(352, 352 + VALUES.nbytes)
        target.numbers = [range(112, 120)]  # scl_slope and scl_inter
    return target


def nrrd(folder: Path, encoding: str) -> Target:
    head = (
        "NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 64 48 20\n"
        "space directions: (1,0,0) (0,2,0) (0,0,3)\nkinds: domain domain domain\nendian: little\n"
        f"encoding: {encoding}\nspace origin: (5,6,7)\n\n"
    ).encode()
    raw = VALUES.tobytes(order="F")
    (folder / "a.nrrd").write_bytes(head + (raw if encoding == "raw" else gzip.compress(raw, mtime=0)))
    target = Target(folder, folder / "a.nrrd", volume_truth(VALUES, GEOMETRY))
    target.numbers = spans(head, b"space directions: ", b"space origin: ")
    if encoding == "raw":
        target.voxels = range(len(head), len(head) + len(raw))
    return target


def metaimage(folder: Path, packed: bool) -> Target:
    raw = VALUES.tobytes(order="F")
    data = zlib.compress(raw) if packed else raw
    size = f"CompressedDataSize = {len(data)}\n" if packed else ""
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = {packed}\n{size}TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 5 6 7\n"
        "CenterOfRotation = 0 0 0\nAnatomicalOrientation = RAI\nElementSpacing = 1 2 3\nDimSize = 64 48 20\n"
        "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    ).encode()
    (folder / "a.mha").write_bytes(head + data)
    target = Target(folder, folder / "a.mha", volume_truth(VALUES, GEOMETRY))
    target.numbers = spans(head, b"TransformMatrix = ", b"Offset = ", b"ElementSpacing = ")
    if not packed:
        target.voxels = range(len(head), len(head) + len(raw))
    return target


def dicom(folder: Path, syntax: str = "") -> Target:
    """The third of five slices is damaged."""
    kind = {} if syntax else {"sop_class": CT, "modality": "CT"}
    files = write_series(folder / "s", slices=5, **kind, **(stored(16) if syntax else {}))
    truth = series_truth(files)
    for file in files:
        ds = pydicom.dcmread(file)
        if syntax == JPEG2000Lossless:
            put(ds, syntax, pydicom.encaps.encapsulate([jpeg_2000(ds.pixel_array)]))
        elif syntax:
            ds.compress(syntax, generate_instance_uid=False)
        pydicom.dcmwrite(file, ds)
    whole = files[2].read_bytes()
    target = Target(folder, files[2], truth, most_changed=35 if syntax else 1)
    start = whole.index(b"\xe0\x7f\x10\x00") + 12
    target.voxels = range(start, len(whole))
    marks = [b"\x28\0\x03\x01US"] if syntax else [b"\x28\0\x03\x01US", b"\x28\0\x52\x10DS", b"\x28\0\x53\x10DS"]
    for mark in marks:
        at = whole.index(mark) + 8
        target.numbers.append(range(at, at + int.from_bytes(whole[at - 2 : at], "little")))
    return target


BUILDERS: dict[str, Callable[[Path], Target]] = {
    "dicom": dicom,
    "dicom-rle": lambda folder: dicom(folder, RLELossless),
    "dicom-jpeg-ls": lambda folder: dicom(folder, JPEGLSLossless),
    "dicom-jpeg-2000": lambda folder: dicom(folder, JPEG2000Lossless),
    "nrrd-raw": lambda folder: nrrd(folder, "raw"),
    "nrrd-gzip": lambda folder: nrrd(folder, "gzip"),
    "metaimage-raw": lambda folder: metaimage(folder, packed=False),
    "metaimage-zlib": lambda folder: metaimage(folder, packed=True),
    "nifti": lambda folder: nifti(folder, "a.nii"),
    "nifti-gz": lambda folder: nifti(folder, "a.nii.gz"),
}
EACH = 30


def read_all(source: Path) -> tuple[list[Any], str]:
    """Every scan that is found, as values and meta data; or nothing, and the code of the refusal."""
    reader = ScanReader()
    try:
        return [reader.get_data(reader.read(record["image"])) for record in find_scans(source)], ""
    except InputError as error:
        return [], str(error.code)


def difference(found: list[Any], truth: Truth) -> tuple[int, int]:
    """Voxels of the truth that lie at no place of a scan, and voxels whose values differ."""
    places, values = truth
    lost = np.ones(len(places), bool)
    other = np.zeros(len(places), bool)
    count = 0
    for scan, meta in found:
        count += scan.size
        index = (np.linalg.inv(np.asarray(meta["affine"])) @ np.column_stack([places, np.ones(len(places))]).T)[:3]
        whole = np.rint(index).astype(int)
        inside = ((whole >= 0) & (whole < np.array(scan.shape)[:, None])).all(axis=0)
        inside &= np.abs(index - whole).max(axis=0) < 0.06
        there = scan[tuple(whole[:, inside])]
        other[inside] = ~np.isclose(there, values[inside], rtol=1e-6)
        lost &= ~inside
    return int(lost.sum()) + abs(count - len(values)), int(other.sum())


def damages(whole: bytes, rng: np.random.Generator) -> Iterator[tuple[bool, int, bytes]]:
    """Truncations and flipped bits in turn; half of the bits in the first 1000 bytes, where the headers are."""
    for number in range(EACH):
        if number % 2:
            at = int(rng.integers(len(whole)))
            yield True, at, whole[:at]
            continue
        at = int(rng.integers(min(1000, len(whole)) if number % 4 else len(whole)))
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(8))
        yield False, at, bytes(flipped)


@pytest.mark.parametrize("name", BUILDERS)
def test_damage_is_refused_or_changes_nothing(name, tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    target = BUILDERS[name](tmp_path)
    assert difference(read_all(target.source)[0], target.truth) == (0, 0)
    whole = target.file.read_bytes()
    rng = np.random.default_rng([17, list(BUILDERS).index(name)])
    kinds = {"refused": 0, "unchanged": 0, "voxels": 0, "number": 0}
    wrong = []
    for truncated, at, damaged in damages(whole, rng):
        target.file.write_bytes(damaged)
        found, code = read_all(target.source)
        if code:
            assert code in REFUSALS
            kinds["refused"] += 1
            continue
        lost, changed = difference(found, target.truth)
        if not lost and not changed:
            kinds["unchanged"] += 1
        elif not truncated and at in target.voxels and not lost and changed <= target.most_changed:
            kinds["voxels"] += 1
        elif not truncated and any(at in span for span in target.numbers):
            kinds["number"] += 1
        else:
            wrong.append((at, whole[max(0, at - 20) : at + 8], lost, changed))
    assert wrong == []
    assert sum(kinds.values()) == EACH
    # All truncations but those within the last mark of the file, and what a checksum covers.
    assert kinds["refused"] >= EACH // 2 - 1
    if name in ("nifti-gz", "nrrd-gzip", "metaimage-zlib"):
        assert kinds["voxels"] == 0
