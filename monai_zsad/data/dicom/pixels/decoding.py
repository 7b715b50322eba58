"""Pixels of DICOM files: decoded in threads, without padding and foreign bits, as rescaled values of one array."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.dicom.files import pixel_element, undecodable
from monai_zsad.data.dicom.pixels.fragments import split_frames
from monai_zsad.data.dicom.pixels.padding import (
    PaddedFrame,
    Range,
    fill_padding,
    find_padding,
    stated_padding,
    states_padding,
)
from monai_zsad.data.dicom.pixels.stored_bits import correct_bits, overlay_bits
from monai_zsad.data.scan import READ_ERRORS, first_line

__all__ = ["Frame", "PixelFile", "linear", "read_frames"]

Rescale = Callable[[np.ndarray], np.ndarray]

_RLE = "1.2.840.10008.1.2.5"
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_WITH_OWN_SIGN = (*_JPEG_2000, *_JPEG_LS)
# So many slices are written to the volume at once: one at a time would be slow, because their pixels lie far apart.
_BLOCK = 8
_MOST_THREADS = 8


class PixelFile:
    """The pixel data of one file, from which frames are decoded.

    Args:
        path: of the file.
        dataset: its header, from :func:`~monai_zsad.data.dicom.files.open_dicom`.
    """

    def __init__(self, path: Path, dataset: Any) -> None:
        self.path = path
        self._dataset = dataset
        element = pixel_element(dataset)
        if element is None:
            raise refusal(path, "no-pixels", "has no pixel data")
        self._element = element
        self._syntax = dataset.file_meta.TransferSyntaxUID
        self._count = int(dataset.get("NumberOfFrames") or 1)
        self._parts: list[bytes] | bytes | None = None
        keyword = self._element.keyword
        self.stored = int(dataset.get("BitsStored") or dataset.BitsAllocated)
        self._overlays = overlay_bits(dataset)
        self._options: dict[str, Any] = {
            "rows": int(dataset.Rows),
            "columns": int(dataset.Columns),
            "samples_per_pixel": 1,
            "bits_allocated": int(dataset.BitsAllocated),
            "bits_stored": self.stored,
            "photometric_interpretation": str(dataset.get("PhotometricInterpretation") or "MONOCHROME2"),
            "pixel_representation": int(dataset.get("PixelRepresentation") or 0),
            "pixel_keyword": keyword,
            "pixel_vr": self._element.vr,
        }
        self._shift = (
            int(dataset.get("HighBit") or self.stored - 1) - (self.stored - 1) if keyword == "PixelData" else 0
        )
        self._ranges: list[Range] | None = None

    @property
    def states_padding(self) -> bool:
        """Whether the header states a padding value."""
        return states_padding(self._dataset, self._options["pixel_keyword"])

    def load(self) -> None:
        """Read the pixel data of a file of several frames once, before its frames are decoded.

        Raises:
            InputError: if it does not hold the frames.
        """
        if self._count == 1:
            return
        try:
            data: Any = self._element.read()
            self._parts = split_frames(data, self._count) if self._syntax.is_encapsulated else data
        except READ_ERRORS as error:
            raise undecodable(self.path, self._syntax, first_line(error)) from error

    def decode(self, index: int) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """Decode a frame.

        Args:
            index: of the frame.

        Returns:
            (rows, columns) stored values; (rows, columns) bool mask of the padding, or None; and whether bits above
            BitsStored were removed that the header does not explain.

        Raises:
            InputError: if the frame cannot be decoded.
        """
        try:
            pixels = self._decode(index)
            if self._shift:
                pixels = _shifted(pixels, self._shift)
            padding = None
            if self.states_padding:
                ranges = stated_padding(self._dataset, self._options["pixel_keyword"], pixels.dtype)
                padding = find_padding(pixels, ranges)
        except READ_ERRORS as error:
            # The plugin's own reason stands last.
            reason = first_line(error, last=isinstance(error, RuntimeError))
            raise undecodable(self.path, self._syntax, reason) from error
        if pixels.dtype.kind not in "iu" or self.stored >= 8 * pixels.dtype.itemsize:
            return pixels, padding, False
        try:
            values, removed = correct_bits(pixels, self.stored, self._overlays, padding)
        except ValueError as error:
            raise refusal(self.path, "wrong-bits", str(error)) from error
        return values if padding is None else np.where(padding, pixels, values), padding, removed

    def _decode(self, index: int) -> np.ndarray:
        from pydicom.encaps import encapsulate
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.pixels.utils import get_j2k_parameters

        data: Any = self._element.read() if self._parts is None else self._parts
        options: dict[str, Any] = self._options
        decoder: Any = get_decoder(self._syntax)
        if not self._syntax.is_encapsulated:
            return decoder.as_array(
                data, index=index, raw=True, number_of_frames=self._count, correct_unused_bits=False, **options
            )[0]
        frame = data[index] if isinstance(data, list) else split_frames(data, 1)[0]
        if self._syntax == _RLE and (pixels := _unpack_rle(frame, options)) is not None:
            return pixels
        source = encapsulate([frame], has_bot=False)
        decode = partial(decoder.as_array, source, index=0, raw=True, number_of_frames=1, correct_unused_bits=False)
        if self._syntax not in _WITH_OWN_SIGN:
            return decode(**options)[0]
        # A JPEG-LS stream has no sign, and that of a JPEG 2000 stream may differ from the header.
        stream = get_j2k_parameters(frame) if self._syntax in _JPEG_2000 else {}
        signed = bool(stream.get("is_signed", False))
        pixels = decode(**{**options, "pixel_representation": int(signed)})[0]
        return _with_sign(pixels, bool(options["pixel_representation"]), stream.get("precision"), self.stored)


@dataclass(frozen=True)
class Frame:
    """A frame of a file, with its rescale.

    Attributes:
        file: that holds it.
        index: in the file, from 0.
        rescale: from stored to modality values.
    """

    file: PixelFile
    index: int
    rescale: Rescale


def linear(slope: float | None, intercept: float | None) -> Rescale:
    """A rescale in float32; an absent slope is 1, an absent intercept is 0."""
    return partial(_linear, slope=np.float32(slope or 1), intercept=np.float32(intercept or 0))


def read_frames(frames: Sequence[Frame], out: np.ndarray, modality: str) -> list[Repair]:
    """Decode frames in threads.

    Args:
        frames: in the order of the array.
        out: (frames, rows, columns) float32, written in place; its axes may lie in any order in memory.
        modality: ``"CT"`` if the values are HU.

    Returns:
        Warnings.

    Raises:
        InputError: naming the file that cannot be decoded.
    """
    for file in {id(frame.file): frame.file for frame in frames}.values():
        file.load()
    blocks = [range(start, min(start + _BLOCK, len(frames))) for start in range(0, len(frames), _BLOCK)]
    read = partial(_read_block, frames, out)
    threads = min(_threads(), len(blocks))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            done = list(pool.map(read, blocks))
    else:
        done = [read(block) for block in blocks]
    repairs = fill_padding(out, [padded for block, _ in done for padded in block], modality)
    if any(removed for _, removed in done):
        sentence = "bits above BitsStored, such as those of an overlay, were removed from the values"
        repairs.append(Repair("bits-removed", sentence))
    return repairs


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def _read_block(frames: Sequence[Frame], out: np.ndarray, block: range) -> tuple[list[PaddedFrame], bool]:
    values = np.empty((len(block), *out.shape[1:]), np.float32)
    padded, removed = [], False
    for target, number in zip(values, block, strict=True):
        frame = frames[number]
        pixels, mask, more = frame.file.decode(frame.index)
        target[...] = frame.rescale(pixels)
        removed |= more
        if frame.file.states_padding:
            padded.append(_padded(target, mask))
        else:
            padded.append(PaddedFrame(None, None, None))
    out[block.start : block.stop] = values
    return padded, removed


def _padded(values: np.ndarray, mask: np.ndarray | None) -> PaddedFrame:
    if mask is None:
        return PaddedFrame(None, None, _range(values))
    return PaddedFrame(mask, _range(values[mask]), _range(values[~mask]))


def _range(values: np.ndarray) -> Range | None:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _linear(pixels: np.ndarray, slope: np.float32, intercept: np.float32) -> np.ndarray:
    if slope != 1:
        pixels = pixels * slope
    return pixels + intercept if intercept != 0 else pixels


def _shifted(pixels: np.ndarray, shift: int) -> np.ndarray:
    """Pixels whose lowest bit is not bit 0; refused if there is anything below it, because HighBit may be wrong."""
    if (pixels & ((1 << shift) - 1)).any():
        raise ValueError(f"its HighBit says that the lowest {shift} bits are unused, but they are used")
    return pixels >> shift


def _unpack_rle(frame: bytes, options: dict[str, Any]) -> np.ndarray | None:
    """A frame of RLE; None where it is not as expected, so that pydicom tells why. Pillow is faster than pydicom."""
    from PIL import Image

    size, width = options["rows"] * options["columns"], options["bits_allocated"] // 8
    header = np.frombuffer(frame[:64], "<u4")
    if width not in (1, 2, 4) or len(header) != 16 or header[0] != width:
        return None
    ends = [*header[1 : width + 1].tolist(), len(frame)]
    planes = np.empty((size, width), np.uint8)
    try:
        for plane, (start, end) in enumerate(itertools.pairwise(ends)):
            # All rows as one, because some writers pack runs that do not end with their row.
            image = Image.frombytes("L", (size, 1), frame[start:end], "packbits", "L")
            planes[:, width - 1 - plane] = np.frombuffer(image.tobytes(), np.uint8)
    except ValueError:
        return None
    kind = "i" if options["pixel_representation"] else "u"
    return planes.view(f"<{kind}{width}").reshape(options["rows"], options["columns"])


def _with_sign(pixels: np.ndarray, signed: bool, precision: int | None, stored: int) -> np.ndarray:
    """Pixels of a stream with the sign of the header.

    Raises:
        ValueError: if the stream holds negative values and the header states unsigned ones.
    """
    size = pixels.dtype.itemsize
    if not signed:
        if pixels.dtype.kind == "i" and int(pixels.min()) < 0:
            raise ValueError("its compressed values are negative, but its PixelRepresentation is unsigned")
        return pixels.view(f"u{size}")
    if pixels.dtype.kind == "i":
        return pixels
    pixels = pixels.view(f"i{size}")
    if precision is None or precision >= stored:
        return pixels
    try:
        return correct_bits(pixels, precision)[0]
    except ValueError:
        return pixels
