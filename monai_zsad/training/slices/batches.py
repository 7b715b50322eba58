"""Batches of training: slices with tumours, slabs with painted or outlined lesions, and filled tumour slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts import Concept, concepts
from monai_zsad.synthesis import ATTRIBUTES
from monai_zsad.training.slices.augment import column, random_geometry, vary_appearance, warp
from monai_zsad.training.slices.bank import BODY, DOUBTFUL, OUTLINED, PLACES, NormalBank
from monai_zsad.training.slices.filled import FilledSlices
from monai_zsad.training.slices.paint import mix_sequences, paint_batch, vary_tissue
from monai_zsad.training.slices.tumours import TumourSlices, check_pathology, tumour_labels

__all__ = ["TrainingBatches", "accumulated_parts", "calibration_slices"]

# Darker regions are background, which is easy.
_AIR, _REGION = 0.03, 8
_BACKGROUND = 0.2
# Filled tissue is not as sure to be normal as other tissue.
_FILLED = 0.3
# Fraction of the extracted brains with an empty background, as programs for brain extraction write it.
_CLEAN = 0.9
# Outlined lesions are bright. They are small or large, focal or diffuse: these concepts are unknown around them.
_BRIGHT, _UNKNOWN, _NEAR = {"lesion", "hyperintense"}, {"small", "large", "diffuse"}, 7
_OUTLINE_WEIGHT = 2.0
_PAINTED_TOO = 0.5  # fraction of the slabs with outlined lesions in which others are painted


class Part(NamedTuple):
    """Slices (B, 3, S, S) in [0, 1], labels and weights (B, S/2, S/2, concepts)."""

    image: torch.Tensor
    label: torch.Tensor
    weight: torch.Tensor


class TrainingBatches(Dataset):
    """Complete batches. Each step of the training has ``parts`` of them, shared by the processes.

    An item depends only on ``seed``, its step and its part. So a training can be resumed at any item, and one process
    gets the batches of several processes one after the other. MONAI's datasets draw each image for itself; here most of
    the work is done for the batch at once.

    An item is a dictionary: ``image`` (B, 3, S, S), ``label`` and ``weight`` (B, S/2, S/2, concepts), float16, and
    ``step``. The label is the fraction of the pixel that the concept covers. The weight is 0 where it is unknown.

    Args:
        bank: normal slabs, filled.
        tumours: slices with tumours.
        volumes: slices with tumours from volumes. The first tumour slice of each part is one of them.
        filled: slices of ``tumours`` without their tumour.
        outlined: slabs with outlined bright lesions, filled.
        steps: number of steps in an epoch.
        counts: number of slices with tumours, with painted lesions, filled, and with outlined lesions, in each part.
        parts: parts of a step.
        seed: random seed.
        alike: fraction of the parts in which the neighbours of a painted slice are replaced by the slice itself, as if
            it had no neighbours.
        leave_out: a pathology that is not shown. ``glioma`` leaves ``volumes`` out as well.
        names: concepts; default: all.

    Raises:
        ConfigurationError: nothing would be left to train on, or a name is unknown.
    """

    def __init__(
        self,
        bank: NormalBank,
        tumours: TumourSlices | None = None,
        volumes: TumourSlices | None = None,
        filled: FilledSlices | None = None,
        outlined: NormalBank | None = None,
        *,
        steps: int,
        counts: tuple[int, ...] = (3, 4, 1, 0),
        parts: int = 2,
        seed: int = 1,
        alike: float = 0.5,
        leave_out: str | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        check_pathology(leave_out)
        nothing = np.zeros((0, bank.size, bank.size), np.uint8)
        none = TumourSlices(nothing, nothing, np.zeros(0, str), np.zeros(0, int), np.zeros(0, bool))
        self.bank, self.tumours, self.volumes = bank, tumours or none, volumes or none
        self.filled = filled or FilledSlices(nothing, nothing > 0, np.zeros(0, int))
        self.outlined = outlined or bank
        self.steps, self.counts, self.parts, self.seed, self.alike = steps, tuple(counts), parts, seed, alike
        self.concepts = _named(names)
        self._members = [[ATTRIBUTES.index(name) for name in concept.attributes] for concept in self.concepts]
        attributes = [set(concept.attributes) for concept in self.concepts]
        self._bright = torch.tensor([names <= _BRIGHT for names in attributes]).float().view(1, -1, 1, 1)
        unknown = [bool(names & _UNKNOWN) and names <= _BRIGHT | _UNKNOWN for names in attributes]
        self._unknown = torch.tensor(unknown).float().view(1, -1, 1, 1)
        self._from_tumours = self.tumours.chosen(held_out=False, leave_out=leave_out)
        self._from_volumes = self.volumes.chosen(held_out=False, leave_out=leave_out)
        self._from_filled = np.flatnonzero(np.isin(self.filled.origin, self._from_tumours))
        outlines = outlined.count if outlined else 0
        available = (len(self._from_tumours), bank.count, len(self._from_filled), outlines)
        kinds = ("tumours", "normal slabs", "filled slices", "outlined lesions")
        if len(self.counts) > len(kinds):
            raise ConfigurationError(f"counts={tuple(counts)}: give up to {len(kinds)} numbers, of {', '.join(kinds)}")
        for name, most, count in zip(kinds, available, self.counts, strict=False):
            if count and not most:
                raise ConfigurationError(f"counts={tuple(counts)}: there are no {name}; give data, or 0 for them")

    def __len__(self) -> int:
        """Items in an epoch."""
        return self.steps * self.parts

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """The item of ``index``, or of ``(epoch, index)`` from a :class:`ResumableSampler`, with epochs from 0."""
        epoch, item = index if isinstance(index, tuple) else (0, index)
        if not 0 <= item < len(self):
            raise IndexError(index)
        step, part = divmod(epoch * len(self) + item, self.parts)
        image, label, weight = self._part(step, part)
        return {"image": image.contiguous(), "label": label.half(), "weight": weight.half(), "step": torch.tensor(step)}

    def known_slices(self, count: int) -> torch.Tensor:
        """Slices (count, 3, S, S) of scans from the training data, unchanged.

        Half of them are tumour slices, filled or not, if there are such. The others are normal slabs. Phantoms are
        left out if there are scans.

        Args:
            count: number of slices.
        """
        rng = np.random.default_rng(self.seed)
        flat = np.concatenate(
            [
                self.tumours.images[self._from_tumours],
                self.volumes.images[self._from_volumes],
                self.filled.images[self._from_filled],
            ]
        )
        single = flat[rng.integers(len(flat), size=count // 2)] if len(flat) else flat
        slabs = rng.choice(self.bank.of_scans(), count - len(single))
        normal = [self.bank.images[n, rng.integers(int(self.bank.facts[n, 0]))] for n in slabs]
        return torch.from_numpy(np.concatenate([np.repeat(single[:, None], 3, axis=1), normal])).float() / 255

    def _part(self, step: int, part: int) -> Part:
        rng = np.random.default_rng([1000 * self.seed, step, part])
        # Far enough apart for any step and part of a training.
        generator = torch.Generator().manual_seed(7919 * step + 104729 * part + self.seed)
        makers = (self._with_tumours, self._painted, self._filled, self._outlined)
        made = [make(count, rng, generator) for make, count in zip(makers, self.counts, strict=False) if count]
        return Part(*(torch.cat(tensors) for tensors in zip(*made, strict=True)))

    def _with_tumours(self, count: int, rng: np.random.Generator, generator: torch.Generator) -> Part:
        chosen = rng.choice(self._from_tumours, count)
        images, masks = self.tumours.images[chosen], self.tumours.masks[chosen]
        if len(self._from_volumes):
            number = rng.choice(self._from_volumes)
            images[0], masks[0] = self.volumes.images[number], self.volumes.masks[number]
        matrices = random_geometry(count, generator)
        image, mask = (warp(torch.from_numpy(one).float()[:, None] / 255, matrices) for one in (images, masks))
        label, weight = tumour_labels(image, mask, self.concepts)
        seen = vary_appearance(image, generator)
        return Part(seen.expand(-1, 3, -1, -1), label, weight * _lit(image))

    def _painted(self, count: int, rng: np.random.Generator, generator: torch.Generator) -> Part:
        return self._of_slabs(self.bank, count, rng, generator)

    def _outlined(self, count: int, rng: np.random.Generator, generator: torch.Generator) -> Part:
        return self._of_slabs(self.outlined, count, rng, generator, painted=_PAINTED_TOO)

    def _of_slabs(
        self,
        bank: NormalBank,
        count: int,
        rng: np.random.Generator,
        generator: torch.Generator,
        painted: float | None = None,
    ) -> Part:
        """Slabs with painted lesions: all of them, or a fraction. Outlined lesions are labelled, too."""
        chosen = np.sort(rng.choice(bank.count, count, replace=count > bank.count))
        slabs = torch.from_numpy(bank.images[chosen]).float() / 255
        bits = torch.from_numpy(bank.masks[chosen])
        sequences, pixel_mm, gap_mm, bare = torch.from_numpy(bank.facts[chosen]).unbind(1)
        image = mix_sequences(slabs, sequences, generator)
        matrices = random_geometry(count, generator, degrees=12.0, turned=0.05)
        image = warp(image, matrices)
        body, places, doubtful, outlined = (
            warp(((bits & bit) > 0).float(), matrices) > 0.5 for bit in (BODY, PLACES, DOUBTFUL, OUTLINED)
        )
        image = vary_tissue(image, body, generator)
        pixel_mm = pixel_mm * matrices[:, :, :2].det().abs().sqrt()
        with_lesions, attributes, weight = paint_batch(
            image, body, places & ~doubtful & ~outlined, pixel_mm, gap_mm, generator
        )
        if painted is None:
            image = with_lesions
        else:
            some = column(torch.rand(count, generator=generator) < painted)
            image, attributes = torch.where(some, with_lesions, image), attributes * some
            weight = torch.where(some, weight, torch.ones(()))
        real = outlined[:, 1:2].float() * (1 - attributes[:, :1])
        near = F.max_pool2d(real, _NEAR, 1, _NEAR // 2) * (1 - attributes[:, :1])
        unsure = doubtful[:, 1:2].float() * (1 - attributes[:, :1]) * (1 - real)
        label = torch.stack([attributes[:, members].amin(1) for members in self._members], 1)
        label = torch.maximum(label, real * self._bright)
        weight = torch.where(real > 0, _OUTLINE_WEIGHT, weight) * (1 - near * self._unknown)
        if torch.rand((), generator=generator) < self.alike:
            image = image[:, 1:2].expand(-1, 3, -1, -1).contiguous()
        image = vary_appearance(image, generator)
        clean = (bare > 0) & (torch.rand(count, generator=generator) < _CLEAN)
        image = torch.where(column(clean), image * body[:, 1:2], image)
        weight = (F.max_pool2d(weight, 2) * (1 - F.max_pool2d(unsure, 2))).permute(0, 2, 3, 1)
        return Part(image, F.avg_pool2d(label, 2).permute(0, 2, 3, 1), weight * _lit(image[:, 1:2]))

    def _filled(self, count: int, rng: np.random.Generator, generator: torch.Generator) -> Part:
        chosen = rng.choice(self._from_filled, count)
        image = torch.from_numpy(self.filled.images[chosen]).float()[:, None] / 255
        zone = torch.from_numpy(self.filled.zones[chosen]).float()[:, None]
        matrices = random_geometry(count, generator)
        image, zone = warp(image, matrices), warp(zone, matrices)
        image = vary_appearance(image, generator)
        weight = (1 - (1 - _FILLED) * F.max_pool2d(zone, 2)).permute(0, 2, 3, 1) * _lit(image)
        weight = weight.expand(-1, -1, -1, len(self.concepts))
        return Part(image.expand(-1, 3, -1, -1), torch.zeros_like(weight), weight)


def accumulated_parts(parts: int, world_size: int) -> int:
    """Number of parts of a step whose gradients each of the processes adds up.

    Raises:
        ConfigurationError: the processes cannot share the parts equally.

    >>> accumulated_parts(2, 1)
    2
    """
    if parts % world_size:
        raise ConfigurationError(f"parts={parts} cannot be shared by {world_size} processes: give a multiple of them")
    return parts // world_size


def calibration_slices(
    batches: TrainingBatches, validation: Dataset, *, leave_out: str | None = None, known: int = 1000
) -> dict[str, Any]:
    """Slices for :func:`~monai_zsad.training.calibrating.fit_calibration`; none but ``known`` is trained on.

    Args:
        batches: the batches of the training.
        validation: slices with ``image`` (3, S, S) and ``label`` (1, S, S); those without a lesion are used.
        leave_out: a pathology that no slice may show.
        known: number of slices of the training.

    Returns:
        ``tumours``: held-out slices and their blocks; ``normal``: held-out slices that were filled, and lesion-free
        slices of the validation; ``known``.
    """
    tumours, filled = batches.tumours, batches.filled
    held = tumours.chosen(held_out=True, leave_out=leave_out)
    spare = np.flatnonzero(np.isin(filled.origin, held))
    normal = [torch.from_numpy(filled.images[spare]).float()[:, None].expand(-1, 3, -1, -1) / 255]
    for number in range(len(validation)):  # type: ignore[arg-type]
        item = validation[number]
        if not (item["label"] > 0).any():
            normal.append(item["image"][None])
    return {
        "tumours": (tumours.images[held], tumours.groups[held]),
        "normal": torch.cat(normal),
        "known": batches.known_slices(known),
    }


def _lit(image: torch.Tensor) -> torch.Tensor:
    """Weight (B, S/2, S/2, 1) of slices (B, 1, S, S): lower where a region is dark."""
    bright = (F.max_pool2d(image, _REGION) > _AIR).float()
    bright = F.interpolate(bright, (image.shape[-2] // 2, image.shape[-1] // 2)).permute(0, 2, 3, 1)
    return torch.where(bright > 0, 1.0, _BACKGROUND)


def _named(names: Sequence[str] | None) -> list[Concept]:
    known = concepts()
    if unknown := [name for name in names or () if name not in known]:
        raise ConfigurationError(f"names={unknown}: unknown concepts; choose from {', '.join(known)}")
    return [known[name] for name in (names or known)]
