"""How frames lie in the pixel data of a file: fragments, offset tables, and a header that states another encoding."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import Repair
from monai_zsad.data.dicom.files import pixel_element

__all__ = ["repair_encoding", "split_frames"]

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_UNDEFINED_LENGTH = b"\xff\xff\xff\xff"
_ITEM = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0" + bytes(4)
_END_OF_IMAGE = b"\xff\xd9"
_MOST_ZEROS = 64


def split_frames(data: bytes, count: int) -> list[bytes]:
    """The frames of encapsulated pixel data.

    An offset table is only an index, and it may be that of another file. So the number of fragments decides, where it
    can: all fragments are the only frame, or each is one. Otherwise the table must point at fragments, or the frames
    end with the end marker of JPEG.

    Args:
        data: value of the element, from the item of the basic offset table on.
        count: number of frames.

    Returns:
        One codestream per frame, in their order.

    Raises:
        ValueError: if there are fewer or more frames, or if the table states another order.

    Example:
        >>> from pydicom.encaps import encapsulate
        >>> split_frames(encapsulate([b"abcd", b"efgh"], has_bot=False), 2)
        [b'abcd', b'efgh']
    """
    from pydicom.encaps import generate_fragments, generate_frames, parse_basic_offsets

    buffer = io.BytesIO(data)
    table = parse_basic_offsets(buffer)
    start = buffer.tell()
    fragments = list(generate_fragments(buffer))
    if count == 1 and fragments:
        return [b"".join(fragments)]
    if table != sorted(table):
        raise ValueError("its offset table states another order of its frames")
    if len(fragments) == count:
        return fragments
    starts = {0, *itertools.accumulate(len(fragment) + 8 for fragment in fragments)}
    if not (len(table) == count and starts.issuperset(table)):
        data = _ITEM + bytes(4) + data[start:]
    frames = list(generate_frames(data, number_of_frames=count))
    if len(frames) != count:
        raise ValueError(f"it holds {len(frames)} of {count} frames")
    return frames


def repair_encoding(file: Path, dataset: Any) -> list[Repair]:
    """Find the pixels of a file that are complete, but not encoded as its header states.

    Args:
        file: of the data set.
        dataset: its header, which gets the pixels or the right transfer syntax.

    Returns:
        A warning if something was corrected.
    """
    from pydicom.uid import ExplicitVRLittleEndian

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_transfer_syntax or not syntax.is_encapsulated:
        return []
    element, count = pixel_element(dataset), int(dataset.get("NumberOfFrames") or 1)
    if element is None:
        data = _unclosed_fragments(file, count)
        if data is None:
            return []
        dataset.add_new("PixelData", "OB", data)
        return [Repair("encoding-corrected", "the end of compressed pixels is not marked, but they are complete")]
    bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) * count
    if element.length is None or element.length not in (bits // 8, bits // 8 + bits // 8 % 2):
        return []
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return [Repair("encoding-corrected", "pixels are not compressed, although their transfer syntax says so")]


def _unclosed_fragments(file: Path, count: int) -> bytes | None:
    """Fragments at the end of a file that does not mark their end, for which pydicom drops them.

    Args:
        file: whose data set seems to have no pixels.
        count: number of its frames.

    Returns:
        The value of the element, or None if a fragment or a frame is not complete.
    """
    whole = file.read_bytes()
    marks = [_PIXEL_DATA + vr + bytes(2) + _UNDEFINED_LENGTH for vr in (b"OB", b"OW")]
    at = max(map(whole.rfind, marks))
    if at < 0:
        return None
    start = place = at + len(marks[0])
    fragments = []
    while whole[place : place + 4] == _ITEM:
        end = place + 8 + int.from_bytes(whole[place + 4 : place + 8], "little")
        if end > len(whole):
            return None
        fragments.append(whole[place + 8 : end])
        place = end
    rest = whole[place:]
    if not (_DELIMITER.startswith(rest) or (len(rest) <= _MOST_ZEROS and not rest.strip(b"\0"))):
        return None
    # The first item is the offset table. A codestream of JPEG tells its own end.
    ended = len(fragments) > 1 and fragments[-1].rstrip(b"\0").endswith(_END_OF_IMAGE)
    return whole[start:place] if ended or len(fragments) == count + 1 else None
