"""Inferers that run a 2D network over the slices of a volume."""

from __future__ import annotations

from monai_zsad.inferers.planes import PLANES, SlicePlane, named_plane, native_plane
from monai_zsad.inferers.slices import VolumeSliceInferer
from monai_zsad.inferers.sliding_windows import token_distance, window_sides

__all__ = [
    "PLANES",
    "SlicePlane",
    "VolumeSliceInferer",
    "named_plane",
    "native_plane",
    "token_distance",
    "window_sides",
]
