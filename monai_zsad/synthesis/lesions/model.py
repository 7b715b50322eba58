"""Settings of synthetic lesions, and the description of the lesions that were painted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from monai_zsad.errors import ConfigurationError

__all__ = ["ATTRIBUTES", "KINDS", "LARGE_MM", "SMALL_MM", "Lesion", "LesionSettings", "LesionedImage"]

ATTRIBUTES = ("lesion", "hyperintense", "hypointense", "ring", "diffuse", "small", "large", "calcified", "textured")
"""Attributes of a lesion, in the order of the attribute masks."""

KINDS = ("focal", "lobed", "ring", "diffuse", "multiple", "calcification", "texture")
"""Kinds of lesions that can be painted."""

SMALL_MM, LARGE_MM = 4.0, 9.0
"""Radius below which a lesion is called small, and above which it is called large."""


@dataclass(frozen=True)
class LesionSettings:
    """Appearance of lesions. Pairs are the ends of ranges; each lesion draws its value from them.

    Args:
        radius_mm: mean radius, drawn uniformly on a logarithmic scale, so that small lesions are common.
        contrast: difference from the surrounding tissue, as a fraction of the image's range (2nd to 98th percentile).
        edge_mm: width over which the border fades.
        kinds: relative frequency of each of :data:`KINDS`.
        hyperintense: fraction of lesions that are brighter than their surroundings.
        mass_effect: fraction of the lesions of 5 mm or more that displace the surrounding tissue.
        texture: strength of the unevenness inside, as a fraction of the contrast.
        extreme: fraction of lesions that are brighter (or darker) than nearly all tissue of the scan, as lesions on
            FLAIR are, and not only than the surrounding tissue.
        grain: fraction of the scan's fine texture that is left inside a lesion. A network could find a lesion that is
            smoother than any tissue by its smoothness alone.

    >>> LesionSettings(hyperintense=1.0).radius_mm
    (1.5, 14.0)
    """

    radius_mm: tuple[float, float] = (1.5, 14.0)
    contrast: tuple[float, float] = (0.18, 0.65)
    edge_mm: tuple[float, float] = (0.6, 2.0)
    kinds: Mapping[str, float] = field(
        default_factory=lambda: dict(zip(KINDS, (4.0, 2.0, 1.0, 1.5, 1.0, 0.5, 0.5), strict=True))
    )
    hyperintense: float = 0.6
    mass_effect: float = 0.3
    texture: tuple[float, float] = (0.05, 0.35)
    extreme: float = 0.3
    grain: tuple[float, float] = (0.7, 1.1)

    def __post_init__(self) -> None:
        for name in ("radius_mm", "contrast", "edge_mm", "texture", "grain"):
            low, high = getattr(self, name)
            if not 0 <= low <= high or (name not in ("texture", "grain") and low == 0):
                raise ConfigurationError(
                    f"{name}={(low, high)!r}: give the lower and the upper end of the range, above 0"
                )
        for name in ("hyperintense", "mass_effect", "extreme"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: give a fraction within [0, 1]")
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise ConfigurationError(f"kinds={unknown!r}: unknown kinds; choose from {', '.join(KINDS)}")
        if not sum(self.kinds.values()) > 0 or min(self.kinds.values()) < 0:
            raise ConfigurationError(
                f"kinds={dict(self.kinds)!r}: give frequencies of 0 or more, and at least one above 0"
            )


@dataclass(frozen=True)
class Lesion:
    """One painted lesion.

    Attributes:
        kind: one of :data:`KINDS`.
        center: voxel indices of its centre.
        radius_mm: mean radius in mm.
        contrast: signed difference from the surrounding tissue, as a fraction of the image's range; for an extreme
            lesion, the difference is at least this.
        attributes: those of :data:`ATTRIBUTES` that the lesion has.
    """

    kind: str
    center: tuple[float, ...]
    radius_mm: float
    contrast: float
    attributes: tuple[str, ...]

    @property
    def caption(self) -> str:
        """Short description of the lesion, such as "small hyperintense lesion".

        >>> Lesion("ring", (1.0, 2.0), 5.0, 0.4, ("lesion", "hyperintense", "ring")).caption
        'ring-enhancing lesion'
        """
        size = next((word for word in ("small", "large") if word in self.attributes), "")
        word = {"ring": "ring-enhancing", "calcification": "calcified", "texture": "irregular"}.get(self.kind)
        if word is None:
            polarity = "hyperintense" if "hyperintense" in self.attributes else "hypointense"
            word = f"diffuse {polarity}" if self.kind == "diffuse" else polarity
        return " ".join(part for part in (size, word, "lesion") if part)


class LesionedImage(NamedTuple):
    """An image with lesions.

    Attributes:
        image: the image with lesions, float32.
        labels: uint8, the number of the lesion at each voxel, from 1; 0 outside of lesions.
        lesions: the painted lesions, in the order of their numbers.
    """

    image: np.ndarray
    labels: np.ndarray
    lesions: tuple[Lesion, ...]

    def attribute_masks(self) -> np.ndarray:
        """Masks (len(ATTRIBUTES), ...) of bool: where a lesion has the attribute."""
        table = np.zeros((len(ATTRIBUTES), len(self.lesions) + 1), dtype=bool)
        for number, lesion in enumerate(self.lesions, start=1):
            for attribute in lesion.attributes:
                table[ATTRIBUTES.index(attribute), number] = True
        return table[:, self.labels]
