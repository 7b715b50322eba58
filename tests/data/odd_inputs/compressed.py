"""DICOM series in every transfer syntax."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.data.odd_inputs.catalogue import Odd, kind, series_truth
from tests.data.samples import write_series


def compress(folder: Path, syntax: str) -> Odd:
    files = write_series(folder / "s")
    truth = series_truth(files)
    for file in files:
        ds = pydicom.dcmread(file)
        if syntax in (RLELossless, JPEGLSLossless):
            ds.compress(syntax, generate_instance_uid=False)
        elif syntax == ExplicitVRBigEndian:
            ds.PixelData = ds.pixel_array.astype(">i2").tobytes()
        elif syntax == JPEG2000Lossless:
            ds.PixelRepresentation = 0
            stream = io.BytesIO()
            Image.fromarray((ds.pixel_array.astype(np.int32) + 300).astype(np.uint16)).save(
                stream, "JPEG2000", no_jp2=True, irreversible=False, num_resolutions=1
            )
            ds.RescaleSlope, ds.RescaleIntercept = 1, -300
            ds.PixelData = encapsulate([stream.getvalue()])
        elif syntax != DeflatedExplicitVRLittleEndian:
            ds.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        if syntax != ExplicitVRBigEndian:
            ds["PixelData"].VR = "OB" if ds.file_meta.TransferSyntaxUID.is_compressed else "OW"
        pydicom.dcmwrite(
            file, ds, little_endian=syntax != ExplicitVRBigEndian, implicit_vr=False, enforce_file_format=False
        )
    return Odd(folder / "s", [truth])


def _add_syntax(name: str, verdict: str, syntax: str) -> None:
    def build(folder: Path) -> Odd:
        return compress(folder, syntax)

    build.__name__ = name
    kind(verdict)(build)


for _name, _verdict, _syntax in (
    ("big_endian", "ok", ExplicitVRBigEndian),
    ("deflated", "ok", DeflatedExplicitVRLittleEndian),
    ("rle", "ok", RLELossless),
    ("jpeg_ls", "ok", JPEGLSLossless),
    ("jpeg_2000", "ok", JPEG2000Lossless),
    ("jpeg_lossless", "refused no-codec", JPEGLosslessSV1),
    ("jpeg_12_bit", "refused no-codec", JPEGExtended12Bit),
    ("htj2k", "refused no-codec", HTJ2KLossless),
):
    _add_syntax(_name, _verdict, _syntax)
