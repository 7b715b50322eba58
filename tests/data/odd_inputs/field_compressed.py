"""Compressed DICOM as people reported it to the makers of other tools; each kind names the report."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jpeg_ls  # type: ignore[import-untyped]
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.data.odd_inputs.catalogue import Odd, kind, series_truth
from tests.data.samples import write_series

Change = Callable[[Dataset, np.ndarray], Any]


def stored(bits: int, signed: bool = False, allocated: int = 16) -> dict[str, Any]:
    """Header fields and pixels that use all stored bits."""
    lowest = -(1 << bits - 1) if signed else 0
    values = np.linspace(lowest, lowest + (1 << bits) - 1, 35).round().reshape(7, 5)
    code = f"<{'i' if signed else 'u'}{allocated // 8}"
    return {
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
        "PixelData": lambda index: np.roll(values, 3 * index).astype(code).tobytes() + b"\0" * (allocated == 8),
    }


def changed(folder: Path, change: Change, **fields: Any) -> Odd:
    """A series whose files were changed; its values are those before the change."""
    files = write_series(folder / "s", **fields)
    truth = series_truth(files)
    for file in files:
        ds = pydicom.dcmread(file)
        change(ds, ds.pixel_array)
        pydicom.dcmwrite(file, ds, little_endian=True, implicit_vr=False, enforce_file_format=False)
    return Odd(folder / "s", [truth])


def put(ds: Dataset, syntax: str, data: bytes) -> None:
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.PixelData = data
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


def jpeg_2000(pixels: np.ndarray, precision: int = 16, signed: bool = False, no_jp2: bool = True) -> bytes:
    """A reversible codestream of this precision and sign; Pillow itself writes unsigned numbers of 16 bits."""
    middle = 0 if signed else 1 << precision - 1
    stream = io.BytesIO()
    image = Image.fromarray((pixels.astype(np.int64) - middle + (1 << 15)).astype(np.uint16))
    image.save(stream, "JPEG2000", no_jp2=no_jp2, irreversible=False, num_resolutions=1)
    data = bytearray(stream.getvalue())
    start = data.index(b"\xff\x4f\xff\x51")
    data[start + 42] = precision - 1 | 128 * signed
    return bytes(data)


def planes(pixels: np.ndarray) -> list[bytes]:
    """The high and the low bytes, as the segments of RLE take them."""
    values = np.ascontiguousarray(pixels).astype("<u2")
    return [(values >> 8).astype(np.uint8).tobytes(), (values & 255).astype(np.uint8).tobytes()]


def literal(data: bytes) -> bytes:
    """A run of RLE for up to 128 bytes, as they are."""
    return bytes([len(data) - 1]) + data


def joined(parts: list[bytes]) -> bytes:
    starts = [64 + sum(map(len, parts[:index])) for index in range(len(parts))]
    return struct.pack("<16L", len(parts), *starts, *[0] * (15 - len(parts))) + b"".join(parts)


@kind("ok")
def j2k_within_a_jp2_file(folder: Path) -> Odd:
    """Pydicom 2073, highdicom 280: the boxes of a JP2 file around the codestream hid its precision."""
    return changed(
        folder,
        lambda ds, pixels: put(ds, JPEG2000Lossless, encapsulate([jpeg_2000(pixels, no_jp2=False)])),
        **stored(16),
    )


@kind("ok")
def j2k_unsigned_codestream_of_signed_pixels(folder: Path) -> Odd:
    """Pydicom 1149: two's complement of 13 bits in an unsigned codestream."""
    return changed(
        folder,
        lambda ds, pixels: put(ds, JPEG2000Lossless, encapsulate([jpeg_2000(pixels & 0x1FFF, precision=13)])),
        **stored(13, signed=True),
    )


@kind("ok")
def j2k_signed_codestream(folder: Path) -> Odd:
    """Pydicom 693, pylibjpeg 54: signed pixels in a codestream that says so."""
    return changed(
        folder,
        lambda ds, pixels: put(ds, JPEG2000Lossless, encapsulate([jpeg_2000(pixels, signed=True)])),
        **stored(16, signed=True),
    )


@kind("ok")
def j2k_of_more_bits_than_stored(folder: Path) -> Odd:
    """Pydicom 2073, pylibjpeg-openjpeg 12: 12 bits are stored, the codestream has a precision of 16."""
    return changed(folder, lambda ds, pixels: put(ds, JPEG2000Lossless, encapsulate([jpeg_2000(pixels)])), **stored(12))


@kind("ok")
def j2k_of_fewer_bits_than_stored(folder: Path) -> Odd:
    """OpenJPEG 1593: an encoder chose the precision by the largest value."""
    return changed(
        folder,
        lambda ds, pixels: put(ds, JPEG2000Lossless, encapsulate([jpeg_2000(pixels, precision=11)])),
        **{**stored(11), "BitsStored": 16, "HighBit": 15},
    )


@kind("ok")
def frame_in_four_fragments(folder: Path) -> Odd:
    """Dcm2niix 1017, pydicom 1774: one frame, no NumberOfFrames, no offsets, several fragments."""
    return changed(
        folder,
        lambda ds, pixels: put(
            ds, JPEG2000Lossless, encapsulate([jpeg_2000(pixels)], fragments_per_frame=4, has_bot=False)
        ),
        **stored(16),
    )


@kind("ok")
def jpeg_ls_signed_12_bits(folder: Path) -> Odd:
    """Pydicom 2009: JPEG-LS does not know signs, and fewer bits are stored than allocated."""

    def change(ds: Dataset, pixels: np.ndarray) -> None:
        packed = jpeg_ls.encode_array(np.ascontiguousarray(pixels & 0xFFF).astype(np.uint16))
        put(ds, JPEGLSLossless, encapsulate([bytes(packed)]))

    return changed(folder, change, **stored(12, signed=True))


@kind("ok")
def jpeg_ls_8_bits_in_16(folder: Path) -> Odd:
    """Pydicom 2010: 16 bits are allocated, and the codestream has 8."""
    return changed(
        folder,
        lambda ds, pixels: put(ds, JPEGLSLossless, encapsulate([bytes(jpeg_ls.encode_array(pixels.astype(np.uint8)))])),
        **stored(8),
    )


def lossy(folder: Path, syntax: str, encode: Callable[[np.ndarray], bytes], decode: Any, **fields: Any) -> Odd:
    """A series of lossy frames; its values are what the codec itself makes of them."""
    files = write_series(folder / "s", **fields)
    packed = {file: encode(pydicom.dcmread(file).pixel_array) for file in files}
    for file in files:
        ds = pydicom.dcmread(file)
        code = "<u1" if ds.BitsAllocated == 8 else "<u2"
        ds.PixelData = np.asarray(decode(packed[file])).astype(code).tobytes() + b"\0" * (ds.BitsAllocated == 8)
        pydicom.dcmwrite(file, ds)
    truth = series_truth(files)
    for file in files:
        ds = pydicom.dcmread(file)
        put(ds, syntax, encapsulate([packed[file]]))
        pydicom.dcmwrite(file, ds)
    return Odd(folder / "s", [truth])


@kind("ok")
def jpeg_ls_near_lossless(folder: Path) -> Odd:
    """Dcm4che 656: near-lossless JPEG-LS."""
    return lossy(
        folder,
        JPEGLSNearLossless,
        lambda pixels: bytes(jpeg_ls.encode_array(pixels, lossy_error=3)),
        lambda data: jpeg_ls.decode(np.frombuffer(data, np.uint8)),
        **stored(12),
    )


@kind("ok")
def jpeg_of_8_bits(folder: Path) -> Odd:
    """Fo-dicom 1112: baseline JPEG, grey, 8 bits, with a rescale."""

    def encode(pixels: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=90)
        return stream.getvalue()

    return lossy(
        folder,
        JPEGBaseline8Bit,
        encode,
        lambda data: Image.open(io.BytesIO(data)),
        RescaleSlope=2,
        RescaleIntercept=-7,
        **stored(8, allocated=8),
    )


def run_lengths(folder: Path, pack: Callable[[list[bytes]], list[bytes]]) -> Odd:
    """A series of RLE frames; ``pack`` makes segments of the high and the low bytes."""
    return changed(
        folder,
        lambda ds, pixels: put(ds, RLELossless, encapsulate([joined(pack(planes(pixels)))])),
        **stored(16),
    )


@kind("ok")
def rle_of_one_byte_too_much(folder: Path) -> Odd:
    """Pydicom 1438: each segment unpacks to one byte more than the frame has."""
    return run_lengths(folder, lambda both: [literal(data + b"\7") + b"\x80" for data in both])


@kind("ok")
def rle_segments_of_odd_length(folder: Path) -> Odd:
    """Pydicom 2180: segments were not padded to an even length."""
    return run_lengths(folder, lambda both: [literal(data[:17]) + literal(data[17:]) for data in both])


@kind("refused undecodable")
def rle_without_its_low_bytes(folder: Path) -> Odd:
    """DICOM PS3.5 G.2: fewer segments than a pixel has bytes."""
    return run_lengths(folder, lambda both: [literal(both[0])])


@kind("refused undecodable")
def rle_of_too_few_bytes(folder: Path) -> Odd:
    """The opposite of pydicom 1438: a segment unpacks to less than the frame has."""
    return run_lengths(folder, lambda both: [literal(both[0]), literal(both[1][:-2])])


def with_other_end(folder: Path, ending: bytes) -> Odd:
    odd = changed(folder, lambda ds, pixels: put(ds, JPEG2000Lossless, encapsulate([jpeg_2000(pixels)])), **stored(16))
    for file in Path(str(odd.source)).iterdir():
        whole = file.read_bytes()
        assert whole.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
        file.write_bytes(whole[:-8] + ending)
    return odd


@kind("repaired encoding-corrected")
def no_delimiter_at_the_end(folder: Path) -> Odd:
    """Fo-dicom 1718, pydicom 1799: the file ends after the last complete fragment."""
    return with_other_end(folder, b"")


@kind("repaired encoding-corrected")
def zeros_for_the_delimiter(folder: Path) -> Odd:
    """DCMTK 118: zeros stand where the fragments should be closed."""
    return with_other_end(folder, bytes(8))


@kind("ok")
def delimiter_of_undefined_length(folder: Path) -> Odd:
    """DicomParser 266: the delimiter claims an undefined length."""
    return with_other_end(folder, b"\xfe\xff\xdd\xe0\xff\xff\xff\xff")


@kind("ok")
def delimiter_within_a_fragment(folder: Path) -> Odd:
    """Pydicom 1140: the bytes of the delimiter occur in the compressed data (here in a comment of the codestream)."""

    def change(ds: Dataset, pixels: np.ndarray) -> None:
        data = jpeg_2000(pixels)
        at = data.index(b"\xff\x52")
        text = b"\xfe\xff\xdd\xe0\0\0\0\0"
        data = data[:at] + b"\xff\x64" + struct.pack(">HH", len(text) + 4, 0) + text + data[at:]
        put(ds, JPEG2000Lossless, encapsulate([data]))

    return changed(folder, change, **stored(16))
