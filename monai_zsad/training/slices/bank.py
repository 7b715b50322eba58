"""Slabs of normal tissue, cut once from volumes and kept in files: cutting takes longer than a step of training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis import Anatomy, SlabSettings
from monai_zsad.synthesis.slabs import cut_slab, extract_slab

__all__ = ["BODY", "DOUBTFUL", "OUTLINED", "PLACES", "NormalBank", "without_pathology"]

BODY, PLACES, DOUBTFUL, OUTLINED = 1, 2, 4, 8
"""Bits of the masks: body, places for lesions, voxels that may belong to a known lesion, outlined lesions."""

# Fraction of the slabs without a lesion that are cut again, where lesions are outlined.
_CUT_AGAIN = 0.6

_SEQUENCES = 3


class SlabFacts(NamedTuple):
    """What is kept of a slab beside its pixels, in this order; all are 0 in a slab that is not cut yet."""

    sequences: float
    pixel_mm: float
    gap_mm: float
    bare: float


class NormalBank:
    """Slabs of normal tissue or with outlined lesions, in files of the folder that are mapped into memory.

    Slab ``i`` depends only on ``seed``, ``i`` and the volumes. If filling is interrupted, it goes on with the missing
    slabs. Several processes can fill one bank: each takes its part. The files' names hold a check sum of volumes and
    settings, so that trainings with other volumes do not share them.

    Args:
        volumes: items with ``anatomy`` (at most three registered images), and optionally ``frequency`` (1), ``planes``
            as in :class:`~monai_zsad.synthesis.SlabSettings`, ``extracted``: the fraction of slabs (0) in which only
            the places for lesions are kept, as in a head whose brain was extracted, ``bare``: the background of the
            volume is empty, and ``phantom``: it is no scan.
        count: number of slabs.
        folder: folder of the files.
        size: S, side of the slabs in pixels.
        seed: random seed.
        slabs: settings of the slabs.

    Raises:
        ConfigurationError: there are no volumes, or a volume has more than three images.
    """

    def __init__(
        self,
        volumes: Sequence[Mapping[str, Any]],
        count: int,
        folder: str | os.PathLike[str],
        *,
        size: int,
        seed: int = 0,
        slabs: SlabSettings | None = None,
    ) -> None:
        if not volumes:
            raise ConfigurationError("volumes is empty: give at least one volume with its anatomy")
        if any(len(volume["anatomy"].volume) - volume["anatomy"].masks > _SEQUENCES for volume in volumes):
            raise ConfigurationError(f"volumes: a volume has more than {_SEQUENCES} images; leave the others out")
        self.volumes, self.count, self.size, self.seed = list(volumes), count, size, seed
        self.settings = replace(slabs or SlabSettings(), size=size)
        frequency = np.array([float(volume.get("frequency", 1)) for volume in volumes])
        self._chances = frequency / frequency.sum()
        self._folder = Path(folder).expanduser()
        self._key = self._check_sum()
        self.images = self._file("images", (_SEQUENCES, 3, size, size), np.uint8)
        """(count, 3 sequences, 3 neighbours, S, S); slabs with fewer sequences have zeros in the others."""
        self.masks = self._file("masks", (3, size, size), np.uint8)
        """(count, 3 neighbours, S, S), sums of the bits."""
        self.facts = self._file("facts", (len(SlabFacts._fields),), np.float32)
        """(count, 4), see :class:`SlabFacts`."""

    def fill(self, rank: int = 0, world_size: int = 1) -> None:
        """Cut the slabs that are missing, of every ``world_size``-th slab from ``rank`` on."""
        for number in range(rank, self.count, world_size):
            if not self.facts[number, 0]:
                self._cut(number)
        for file in (self.images, self.masks, self.facts):
            file.flush()

    def of_scans(self) -> np.ndarray:
        """Numbers of the slabs that are not of a phantom; all numbers if there are only phantoms."""
        real = [number for number in range(self.count) if not self._drawn(number)[0].get("phantom")]
        return np.array(real or range(self.count))

    def _drawn(self, number: int) -> tuple[Mapping[str, Any], np.random.Generator]:
        """The volume of a slab, and the random numbers for what follows."""
        rng = np.random.default_rng([self.seed, number])
        return self.volumes[int(rng.choice(len(self.volumes), p=self._chances))], rng

    def _cut(self, number: int) -> None:
        volume, rng = self._drawn(number)
        anatomy: Anatomy = volume["anatomy"]
        settings = replace(self.settings, planes=tuple(volume["planes"])) if "planes" in volume else self.settings
        slab = cut_slab(anatomy.volume, anatomy.masks, anatomy.spacing, rng, settings)
        while anatomy.masks > 3 and not slab.masks[3][..., 1].any() and rng.uniform() < _CUT_AGAIN:
            slab = cut_slab(anatomy.volume, anatomy.masks, anatomy.spacing, rng, settings)
        extracted = rng.uniform() < volume.get("extracted", 0)
        if extracted:
            slab = extract_slab(slab, rng)
        pixels = (slab.images.clip(0, 1) * 255).round().astype(np.uint8)
        self.images[number, : len(pixels)] = pixels.transpose(0, 3, 1, 2)
        bits = (BODY, PLACES, DOUBTFUL, OUTLINED)[: anatomy.masks]
        self.masks[number] = sum(mask * bit for mask, bit in zip(slab.masks.transpose(0, 3, 1, 2), bits, strict=True))
        bare = float(extracted or bool(volume.get("bare", False)))
        # Last, as it says that the slab is complete.
        self.facts[number] = SlabFacts(len(pixels), slab.spacing[0], slab.spacing[2], bare)

    def _check_sum(self) -> int:
        total = crc32(repr((self.count, self.seed, self.settings)).encode())
        for volume in self.volumes:
            anatomy: Anatomy = volume["anatomy"]
            facts = {key: value for key, value in volume.items() if key != "anatomy"}
            total = crc32(repr((anatomy.spacing, sorted(facts.items()))).encode(), total)
            total = crc32(np.ascontiguousarray(anatomy.volume).data, total)
        return total

    def _file(self, name: str, shape: tuple[int, ...], kind: type) -> np.memmap:
        """An array (count, ...) in a file of the folder, made with zeros if it is not there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"normal_{self._key:08x}_{name}.bin"
        with path.open("ab") as stream:
            stream.truncate(self.count * int(np.prod(shape)) * np.dtype(kind).itemsize)
        return np.memmap(path, kind, "r+", shape=(self.count, *shape))


def without_pathology(records: Sequence[Mapping[str, Any]], leave_out: str | None) -> list[Mapping[str, Any]]:
    """Records whose entry ``shows`` is not the pathology that is left out.

    >>> without_pathology([{"t1": "a.nii", "shows": "ms"}, {"t1": "b.nii"}], "ms")
    [{'t1': 'b.nii'}]
    """
    return [record for record in records if leave_out is None or record.get("shows") != leave_out]
