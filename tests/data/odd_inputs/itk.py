"""NRRD and MetaImage files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.odd_inputs.catalogue import LPS_TO_RAS, Odd, Truth, kind, volume_truth


def nrrd(folder: Path, name: str = "a.nrrd", data: bytes | None = None, **changes: Any) -> tuple[Path, Truth]:
    values = np.arange(60, dtype="<i2").reshape(3, 4, 5, order="F")
    fields: dict[str, str | None] = {
        "type": "int16",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "3 4 5",
        "space directions": "(1,0,0) (0,2,0) (0,0,3)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(5,6,7)",
        **{key.replace("_", " "): value for key, value in changes.items()},
    }
    head = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in fields.items() if value is not None) + "\n"
    raw = values.tobytes(order="F")
    packed = gzip.compress(raw) if fields["encoding"] == "gzip" else raw
    (folder / name).write_bytes(head.encode() + (packed if data is None else data))
    return folder / name, volume_truth(
        values, LPS_TO_RAS @ np.array([[1, 0, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    )


def _add_nrrd(name: str, verdict: str, data: bytes | None, changes: Mapping[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        file, truth = nrrd(folder, data=data, **changes)
        return Odd(file, [truth])

    build.__name__ = name
    kind(verdict)(build)


_PACKED = gzip.compress(np.arange(60, dtype="<i2").tobytes(), mtime=0)
for _name, _verdict, _data, _fields in (
    ("nrrd_raw", "ok", None, {}),
    ("nrrd_packed", "ok", None, {"encoding": "gzip"}),
    ("nrrd_truncated", "refused damaged", b"\1" * 50, {}),
    ("nrrd_bad_checksum", "refused damaged", _PACKED[:-6] + b"\1" + _PACKED[-5:], {"encoding": "gzip"}),
    ("nrrd_cut_stream", "refused damaged", _PACKED[:-10], {"encoding": "gzip"}),
    ("nrrd_without_space", "refused no-geometry", None,
     {"space": None, "space directions": None, "space origin": None}),
    ("nrrd_spacings_only", "refused no-geometry", None,
     {"space": None, "space directions": None, "space origin": None, "spacings": "1 2 3"}),
    ("nrrd_in_microns", "refused wrong-unit", None, {"space units": '"um" "um" "um"'}),
    ("nrrd_elsewhere", "refused detached-data", b"", {"data file": "../b.raw"}),
    ("nrrd_absolute", "refused detached-data", b"", {"data file": "/etc/hostname"}),
    ("nrrd_missing_data", "refused detached-data", b"", {"data file": "b.raw"}),
    ("nrrd_huge", "refused too-large", None, {"sizes": "30000 30000 30000"}),
    ("nrrd_bomb", "refused implausible-compression", None, {"sizes": "500 500 500", "encoding": "gzip"}),
    ("nrrd_without_origin", "refused no-geometry", None, {"space_origin": None}),
    ("nrrd_without_a_direction", "refused no-geometry", None, {"space_directions": "none (0,2,0) (0,0,3)"}),
    ("nrrd_skipping", "ok", b"x" * 13 + np.arange(60, dtype="<i2").tobytes(), {"byte_skip": "-1"}),
    ("nrrd_skipping_truncated", "refused damaged", b"\1" * 100, {"byte_skip": "-1"}),
    ("nrrd_constant", "refused constant", bytes(120), {}),
):  # fmt: skip
    _add_nrrd(_name, _verdict, _data, _fields)


@kind("ok")
def nrrd_detached_beside(folder: Path) -> Odd:
    file, truth = nrrd(folder, "a.nhdr", data=b"", data_file="a.raw")
    (folder / "a.raw").write_bytes(np.arange(60, dtype="<i2").tobytes())
    return Odd(file, [truth])


def metaimage(folder: Path, data: bytes | None = None, **changes: str | None) -> Odd:
    values = np.arange(60, dtype="<i2").reshape(3, 4, 5, order="F")
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "5 6 7",
        "ElementSpacing": "1 2 3",
        "DimSize": "3 4 5",
        "ElementType": "MET_SHORT",
        **changes,
        "ElementDataFile": "LOCAL",
    }
    head = "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)
    (folder / "a.mha").write_bytes(head.encode() + (values.tobytes(order="F") if data is None else data))
    affine = LPS_TO_RAS @ np.array([[1, 0, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    return Odd(folder, [volume_truth(values, affine)])


def _add_metaimage(name: str, verdict: str, data: bytes | None, changes: Mapping[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        return metaimage(folder, data, **changes)

    build.__name__ = name
    kind(verdict)(build)


_ZLIB = zlib.compress(np.arange(60, dtype="<i2").tobytes())
for _name, _verdict, _data, _fields in (
    ("metaimage_raw", "ok", None, {}),
    ("metaimage_packed", "ok", _ZLIB, {"CompressedData": "True", "CompressedDataSize": str(len(_ZLIB))}),
    ("metaimage_packed_without_size", "refused damaged", _ZLIB, {"CompressedData": "True"}),
    ("metaimage_packed_with_small_size", "refused damaged", _ZLIB,
     {"CompressedData": "True", "CompressedDataSize": "30"}),
    ("metaimage_packed_with_large_size", "refused damaged", _ZLIB,
     {"CompressedData": "True", "CompressedDataSize": "3000"}),
    ("metaimage_truncated", "refused damaged", b"\1" * 100, {}),
    ("metaimage_from_the_end_truncated", "refused damaged", b"\1" * 100, {"HeaderSize": "-1"}),
    ("metaimage_without_spacing", "refused no-geometry", None, {"ElementSpacing": None}),
    ("metaimage_without_offset", "refused no-geometry", None, {"Offset": None}),
    ("metaimage_without_directions", "refused no-geometry", None, {"TransformMatrix": None}),
    ("metaimage_in_microns", "refused wrong-unit", None, {"DistanceUnits": "um"}),
    ("metaimage_scaled", "refused bad-rescale", None, {"ElementToIntensityFunctionSlope": "2"}),
):  # fmt: skip
    _add_metaimage(_name, _verdict, _data, _fields)
