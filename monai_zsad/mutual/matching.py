"""Which scans and slices are compared: scans of one kind, and slices at about the same height in the body."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch

from monai_zsad.data.dicom.file_header import read_header
from monai_zsad.errors import InputError
from monai_zsad.prompts.library import modalities
from monai_zsad.transforms import BodyMask

__all__ = ["ComparedScan", "Kind", "body_heights", "choose_others", "contrast_of", "nearest_slices", "scan_kind"]

_MR = ("flair", "t1_contrast", "t1", "t2", "dwi")
_SMALLEST_SLICE = 0.05


@dataclass(frozen=True)
class Kind:
    """What two scans must have in common before they are compared.

    Attributes:
        modality: DICOM's code; empty if it is unknown.
        contrast: of MR, a modality of the prompts such as ``flair``; empty if it is unknown.
        body_part: DICOM's BodyPartExamined in lower case; empty if it is unknown.
        intensity: how grey values were scaled.
        planes: planes of the slices.
        channels: of the volume: 1, or 3 for colour or three CT windows.

    Example:
        >>> str(Kind("MR", "flair", "", "percentiles 0.5 to 99.5 of the foreground", ("axial",), 1))
        'MR, flair, axial slices'
    """

    modality: str
    contrast: str
    body_part: str
    intensity: str
    planes: tuple[str, ...]
    channels: int

    def __str__(self) -> str:
        window = self.intensity if "percentiles" not in self.intensity else ""
        parts = (self.modality or "unknown modality", self.contrast, self.body_part, window)
        return ", ".join([*filter(None, parts), f"{' and '.join(self.planes)} slices"])

    def as_json(self) -> str:
        """The kind as a text, for a file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Kind:
        """The kind that :meth:`as_json` wrote.

        Args:
            text: of :meth:`as_json`.

        Returns:
            The kind.
        """
        known = json.loads(text)
        return cls(**{**known, "planes": tuple(known["planes"])})


def scan_kind(
    files: Sequence[str | os.PathLike[str]],
    modality: str = "",
    intensity: str = "",
    planes: Sequence[str] = ("axial",),
    channels: int = 1,
) -> Kind:
    """The kind of a scan.

    The contrast of an MR comes from DICOM's SeriesDescription, of other formats from the name of the file. The texts
    themselves are not kept, since they may name a patient.

    Args:
        files: of the scan.
        modality: DICOM's code, where it is known.
        intensity: ``meta["intensity"]`` of the prepared scan.
        planes: names of the planes of the slices.
        channels: of the prepared volume.

    Returns:
        The kind.

    Example:
        >>> scan_kind(["scans/anna_FLAIR.nii.gz"], intensity="percentiles 1 to 99 of the foreground (3 to 90)").contrast
        'flair'
    """
    file = Path(files[0])
    header = read_header(file) if file.is_file() else None
    text = file.name.partition(".")[0] if header is None else header.description
    return Kind(
        modality.upper() or ("" if header is None else header.modality),
        contrast_of(text),
        "" if header is None else header.body_part.lower(),
        intensity.partition(" (")[0],
        tuple(planes),
        channels,
    )


def contrast_of(text: str) -> str:
    """The MR contrast that a name or a description states.

    Args:
        text: such as the name of a file, or DICOM's SeriesDescription.

    Returns:
        ``"flair"``, ``"t1"``, ``"t1_contrast"``, ``"t2"`` or ``"dwi"``; empty if it states none.

    Example:
        >>> contrast_of("sub-01_T2w"), contrast_of("Ax T2 FLAIR"), contrast_of("t1_gd"), contrast_of("anna")
        ('t2', 'flair', 't1_contrast', '')
    """
    words = re.findall(r"[a-z]+\d*[a-z]*", text.lower())
    known = {key: {key, *modalities()[key].aliases} for key in _MR}
    if {"t1", "t1w"} & set(words) and {"gd", "ce", "post", "contrast", "km"} & set(words):
        return "t1_contrast"
    return next((key for key in _MR if known[key] & set(words)), "")


def body_heights(volume: torch.Tensor, axis: int, indices: torch.Tensor) -> torch.Tensor:
    """Heights of slices in the body: 0 for its first slice, 1 for its last one.

    Slices that contain less of the body than 5 % of its largest slice do not count as its ends, since they may be a
    head rest.

    Args:
        volume: (C, X, Y, Z), prepared.
        axis: 0 to 2, through the slices.
        indices: (n,) of the slices.

    Returns:
        (n,), float32. Slices beyond the ends of the body have a height below 0 or above 1. If the body has one slice,
        its height is 0.5.

    Example:
        >>> volume = torch.zeros(1, 8, 8, 7)
        >>> volume[..., 2:6, 2:6, 1:6] = 1.0
        >>> body_heights(volume, 2, torch.arange(1, 6)).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    mask = torch.as_tensor(BodyMask()(volume))[0].bool()
    area = mask.sum([other for other in range(3) if other != axis])
    inside = (area > _SMALLEST_SLICE * area.max()).nonzero().flatten()
    first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, volume.shape[axis + 1] - 1)
    if first == last:
        return torch.full((len(indices),), 0.5) + (indices.cpu() - first)
    return (indices.cpu() - first).float() / (last - first)


def nearest_slices(height: float, heights: torch.Tensor, count: int) -> list[int]:
    """The slices of another scan whose heights are nearest to a height.

    Args:
        height: of the slice that is scored.
        heights: (n,) of the other scan.
        count: how many; a scan with fewer slices gives all.

    Returns:
        Their numbers, ascending.

    Example:
        >>> nearest_slices(0.4, torch.tensor([0.0, 0.25, 0.5, 0.75]), 2)
        [1, 2]
    """
    order = (heights - height).abs().argsort(stable=True)[:count]
    return sorted(order.tolist())


def choose_others(
    case: str,
    embeddings: Mapping[str, torch.Tensor],
    count: int,
    how: Literal["nearest", "random"] = "random",
) -> list[str]:
    """The scans that one scan is compared with.

    Args:
        case: the scan; it is not compared with itself.
        embeddings: (C,) of each scan of its kind, also of the scan itself.
        count: how many scans; fewer if there are fewer.
        how: ``"random"``: a choice that is the same in every run; ``"nearest"``: those whose embeddings are most
            similar. Similar scans may share a disease, which then looks normal.

    Returns:
        Their names, sorted.

    Raises:
        InputError: if there is no other scan.

    Example:
        >>> scans = {name: torch.tensor([float(place), 1.0]) for place, name in enumerate(("a", "b", "c"))}
        >>> choose_others("a", scans, 1, "nearest"), len(choose_others("a", scans, 5))
        (['b'], 2)
    """
    others = sorted(set(embeddings) - {case})
    if not others:
        raise InputError(f"{case}: there is no other scan to compare it with; add scans, or give --reference NORMALS")
    if len(others) <= count:
        return others
    if how == "random":
        return sorted(random.Random(case).sample(others, count))
    own = torch.nn.functional.normalize(embeddings[case].float(), dim=0)
    like = torch.stack([torch.nn.functional.normalize(embeddings[name].float(), dim=0) for name in others]) @ own
    return sorted(others[place] for place in like.argsort(descending=True, stable=True)[:count].tolist())


@dataclass
class ComparedScan:
    """A scan that others are compared with: its aggregated tokens, near a height.

    Attributes:
        heights: (n,) of its slices.
        planes: (n,) of its slices.
        load: gives the tokens of a slice: (degrees, layers, tokens, channels), aggregated and normalised.
    """

    heights: torch.Tensor
    planes: torch.Tensor
    load: Callable[[int], torch.Tensor]
    _recent: dict[int, torch.Tensor] = field(default_factory=dict, repr=False)

    def near(self, height: float, plane: int, count: int) -> list[torch.Tensor]:
        """Tokens of the slices of a plane that are nearest to a height.

        Args:
            height: see :func:`~monai_zsad.mutual.matching.body_heights`.
            plane: its number.
            count: of slices.

        Returns:
            (degrees, layers, tokens, channels) of each of these slices.

        Raises:
            InputError: if the scan has no slice of this plane.
        """
        own = (self.planes == plane).nonzero().flatten()
        if not len(own):
            raise InputError(f"a scan to compare with has no slices of plane {plane}; compute its features again")
        numbers = [int(own[place]) for place in nearest_slices(height, self.heights[own], count)]
        # Slices are scored in order, so that neighbours are needed again soon.
        self._recent = {one: self._recent[one] if one in self._recent else self.load(one) for one in numbers}
        return list(self._recent.values())
