"""Pixels of DICOM files: fragments and frames, decoding, foreign bits, padding."""

from __future__ import annotations

from monai_zsad.data.dicom.pixels.decoding import Frame, PixelFile, linear, read_frames
from monai_zsad.data.dicom.pixels.fragments import repair_encoding, split_frames

__all__ = ["Frame", "PixelFile", "linear", "repair_encoding", "read_frames", "split_frames"]
