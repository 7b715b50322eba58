"""How compressed frames lie in a DICOM file, and files that state another encoding than they have, as reported."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.data.odd_inputs.catalogue import Odd, kind, series_truth
from tests.data.odd_inputs.enhanced import enhanced
from tests.data.odd_inputs.field_compressed import changed, jpeg_2000, put, stored
from tests.data.samples import write_series

PLACES = [6, 0, 3, 12, 9]


def enhanced_j2k(folder: Path, pack: Callable[[Dataset, list[bytes]], bytes]) -> Odd:
    """An enhanced multi-frame file of JPEG 2000 frames; ``pack`` makes its pixel data of them."""
    truth = enhanced(folder / "e", PLACES)
    ds = pydicom.dcmread(folder / "e")
    frames = [jpeg_2000(frame) for frame in ds.pixel_array]
    put(ds, JPEG2000Lossless, pack(ds, frames))
    pydicom.dcmwrite(folder / "e", ds)
    return Odd(folder / "e", [truth])


def items(offsets: Sequence[int], fragments: Sequence[bytes]) -> bytes:
    """Pixel data with this offset table, whatever the fragments are."""
    table = struct.pack(f"<{len(offsets)}L", *offsets)
    return b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<L", len(part)) + part for part in [table, *fragments])


def halves(frame: bytes) -> list[bytes]:
    middle = len(frame) // 4 * 2
    return [frame[:middle], frame[middle:] + b"\0" * (len(frame) % 2)]


def even(frame: bytes) -> bytes:
    return frame + b"\0" * (len(frame) % 2)


@kind("ok")
def frames_without_offsets(folder: Path) -> Odd:
    """Pydicom 685, fo-dicom 1528: several frames and an empty offset table."""
    return enhanced_j2k(folder, lambda _, frames: encapsulate(frames, has_bot=False))


@kind("ok")
def frames_in_fragments_without_offsets(folder: Path) -> Odd:
    """Fo-dicom 992, pydicom 1774: each frame is in two fragments, and no table says which belong together."""
    return enhanced_j2k(folder, lambda _, frames: encapsulate(frames, fragments_per_frame=2, has_bot=False))


@kind("ok")
def frames_in_fragments(folder: Path) -> Odd:
    """Pydicom 688: the same with an offset table."""
    return enhanced_j2k(folder, lambda _, frames: encapsulate(frames, fragments_per_frame=2))


@kind("ok")
def extended_offsets(folder: Path) -> Odd:
    """Pydicom 1968: an extended offset table whose lengths leave out the padding."""

    def pack(ds: Dataset, frames: list[bytes]) -> bytes:
        data, _, _ = encapsulate_extended([even(frame) for frame in frames])
        starts = np.cumsum([0, *(len(even(frame)) + 8 for frame in frames[:-1])])
        ds.ExtendedOffsetTable = struct.pack(f"<{len(frames)}Q", *starts.tolist())
        ds.ExtendedOffsetTableLengths = struct.pack(f"<{len(frames)}Q", *map(len, frames))
        return data

    return enhanced_j2k(folder, pack)


@kind("ok")
def extended_offsets_of_another_file(folder: Path) -> Odd:
    """Pydicom 1968: an extended offset table that was not updated, so that it points into the frames."""

    def pack(ds: Dataset, frames: list[bytes]) -> bytes:
        data, _, _ = encapsulate_extended([even(frame) for frame in frames])
        ds.ExtendedOffsetTable = struct.pack(f"<{len(frames)}Q", *(30 * index for index in range(len(frames))))
        ds.ExtendedOffsetTableLengths = struct.pack(f"<{len(frames)}Q", *[30] * len(frames))
        return data

    return enhanced_j2k(folder, pack)


@kind("ok")
def offsets_into_the_frames(folder: Path) -> Odd:
    """Dcm2niix 995, dicomParser 269: a basic offset table of another file."""
    return enhanced_j2k(
        folder, lambda _, frames: items([37 * index for index in range(len(frames))], [even(one) for one in frames])
    )


@kind("refused undecodable")
def offsets_of_swapped_frames(folder: Path) -> Odd:
    """Dcm2niix 995: an offset table in another order, which would exchange slices."""

    def pack(_: Dataset, frames: list[bytes]) -> bytes:
        parts = [even(one) for one in frames]
        starts = np.cumsum([0, *(len(part) + 8 for part in parts[:-1])]).tolist()
        return items([starts[1], starts[0], *starts[2:]], parts)

    return enhanced_j2k(folder, pack)


@kind("refused undecodable")
def fewer_frames_than_stated(folder: Path) -> Odd:
    """Fo-dicom 992: NumberOfFrames is not the number of fragments."""
    return enhanced_j2k(folder, lambda _, frames: encapsulate(frames[:-1], has_bot=False))


@kind("ok")
def two_offsets_for_one_frame(folder: Path) -> Odd:
    """Dcm2niix 995: one frame, and an offset table with an entry for each of its two fragments."""

    def change(ds: Dataset, pixels: np.ndarray) -> None:
        parts = halves(jpeg_2000(pixels))
        put(ds, JPEG2000Lossless, items([0, len(parts[0]) + 8], parts))

    return changed(folder, change, **stored(16))


@kind("ok")
def every_other_slice_compressed(folder: Path) -> Odd:
    """One series in three transfer syntaxes, as after a server that compresses what it has time for."""
    files = write_series(folder / "s")
    truth = series_truth(files)
    for index, file in enumerate(files):
        ds = pydicom.dcmread(file)
        if index % 3:
            ds.compress((RLELossless, JPEGLSLossless)[index % 3 - 1], generate_instance_uid=False)
            pydicom.dcmwrite(file, ds)
    return Odd(folder / "s", [truth])


def state_syntax(file: Path, syntax: str) -> None:
    """Change the stated transfer syntax, and nothing else."""
    whole = file.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(file)
    with file.open("rb") as stream:
        stream.seek(132)
        pydicom.filereader.read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        body = whole[stream.tell() :]
    meta.TransferSyntaxUID = UID(syntax)
    with pydicom.filebase.DicomBytesIO() as head:
        head.is_little_endian, head.is_implicit_VR = True, False
        write_dataset(head, meta)
        file.write_bytes(whole[:132] + head.getvalue() + body)


@kind("refused undecodable")
def compressed_named_uncompressed(folder: Path) -> Odd:
    """DICOMcloud 22: the pixels were compressed, and the transfer syntax still says uncompressed."""
    odd = changed(folder, lambda ds, pixels: put(ds, JPEG2000Lossless, encapsulate([jpeg_2000(pixels)])), **stored(16))
    for file in Path(str(odd.source)).iterdir():
        state_syntax(file, ExplicitVRLittleEndian)
    return odd


@kind("repaired encoding-corrected")
def uncompressed_named_compressed(folder: Path) -> Odd:
    """Fo-dicom 2008: the pixels are not compressed, though the transfer syntax says so."""
    files = write_series(folder / "s", **stored(16))
    truth = series_truth(files)
    for file in files:
        state_syntax(file, JPEG2000Lossless)
    return Odd(folder / "s", [truth])


@kind("ok")
def another_syntax_in_the_original_attributes(folder: Path) -> Odd:
    """Dcm2niix 807: a transfer syntax of an earlier copy stands among the original attributes."""
    earlier, modified = Dataset(), Dataset()
    modified.add_new(0x00020010, "UI", JPEG2000Lossless)
    earlier.ModifiedAttributesSequence = [modified]
    earlier.ReasonForTheAttributeModification = "COERCE"
    files = write_series(folder / "s", OriginalAttributesSequence=[earlier])
    return Odd(folder / "s", [series_truth(files)])


@kind("refused undecodable")
def pixels_in_the_byte_order_of_a_vendor(folder: Path) -> Odd:
    """DicomParser 107: the private transfer syntax of GE, whose header is little-endian and whose pixels are not."""
    files = write_series(folder / "s", PixelData=lambda _: np.arange(35, dtype=">i2").tobytes())
    for file in files:
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = UID("1.2.840.113619.5.2")
        pydicom.dcmwrite(file, ds, little_endian=True, implicit_vr=True, enforce_file_format=False)
    return Odd(folder / "s")


@kind("refused undecodable")
def deflated_frames(folder: Path) -> Odd:
    """Dicom-rs 711: a transfer syntax that is younger than the decoders."""
    odd = changed(folder, lambda ds, pixels: put(ds, RLELossless, encapsulate([pixels.tobytes()])))
    for file in Path(str(odd.source)).iterdir():
        state_syntax(file, "1.2.840.10008.1.2.8.1")
    return odd


def icon() -> Dataset:
    """A small picture of its own, with other sizes and bits than the slice."""
    ds = Dataset()
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 2, 2, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = b"\1\2\3\4"
    return ds


@kind("ok")
def icon_in_front_of_compressed_pixels(folder: Path) -> Odd:
    """Dcm2niix 638 and 440: an icon with pixel data of its own stands before the pixels."""

    def change(ds: Dataset, pixels: np.ndarray) -> None:
        ds.IconImageSequence = [icon()]
        put(ds, JPEG2000Lossless, encapsulate([jpeg_2000(pixels)]))

    return changed(folder, change, **stored(16))


@kind("ok")
def icon_in_front_of_pixels(folder: Path) -> Odd:
    """Dcm2niix 638: the same, uncompressed."""
    files = write_series(folder / "s", IconImageSequence=lambda _: [icon()])
    return Odd(folder / "s", [series_truth(files)])
