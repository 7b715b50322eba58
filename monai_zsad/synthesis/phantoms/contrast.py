"""Intensities of the tissues of a phantom: MR sequences, CT, and random contrasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis.phantoms.model import Tissue

__all__ = ["CONTRASTS", "Contrast", "choose_contrast"]

_T = Tissue
_MEANS: dict[tuple[str, str], Mapping[Tissue, float]] = {
    ("head", "flair"): {
        _T.AIR: 0.01, _T.FAT: 0.72, _T.BONE: 0.06, _T.MARROW: 0.06, _T.CSF: 0.10, _T.GREY: 0.62, _T.WHITE: 0.50,
        _T.NUCLEI: 0.56,
    },
    ("head", "t1"): {
        _T.AIR: 0.01, _T.FAT: 0.92, _T.BONE: 0.06, _T.MARROW: 0.55, _T.CSF: 0.13, _T.GREY: 0.42, _T.WHITE: 0.62,
        _T.NUCLEI: 0.52,
    },
    ("head", "t2"): {
        _T.AIR: 0.01, _T.FAT: 0.60, _T.BONE: 0.04, _T.MARROW: 0.30, _T.CSF: 0.95, _T.GREY: 0.50, _T.WHITE: 0.36,
        _T.NUCLEI: 0.42,
    },
    ("head", "ct"): {
        _T.AIR: -1000, _T.FAT: -90, _T.BONE: 1000, _T.MARROW: 480, _T.CSF: 5, _T.GREY: 37, _T.WHITE: 29, _T.NUCLEI: 36,
    },
    ("abdomen", "t1"): {
        _T.AIR: 0.01, _T.FAT: 0.90, _T.BONE: 0.08, _T.MARROW: 0.55, _T.CSF: 0.12, _T.GREY: 0.35, _T.MUSCLE: 0.33,
        _T.LIVER: 0.52, _T.SPLEEN: 0.36, _T.KIDNEY_CORTEX: 0.46, _T.KIDNEY_MEDULLA: 0.32, _T.VESSEL: 0.16,
        _T.DISC: 0.34, _T.BOWEL_WALL: 0.38, _T.BOWEL_CONTENT: 0.28, _T.FLUID: 0.16, _T.GAS: 0.01, _T.LUNG: 0.04,
        _T.PANCREAS: 0.56,
    },
    ("abdomen", "t2"): {
        _T.AIR: 0.01, _T.FAT: 0.66, _T.BONE: 0.05, _T.MARROW: 0.36, _T.CSF: 0.95, _T.GREY: 0.42, _T.MUSCLE: 0.17,
        _T.LIVER: 0.27, _T.SPLEEN: 0.46, _T.KIDNEY_CORTEX: 0.50, _T.KIDNEY_MEDULLA: 0.64, _T.VESSEL: 0.07,
        _T.DISC: 0.45, _T.BOWEL_WALL: 0.30, _T.BOWEL_CONTENT: 0.45, _T.FLUID: 0.92, _T.GAS: 0.01, _T.LUNG: 0.05,
        _T.PANCREAS: 0.36,
    },
    # HU in the portal venous phase.
    ("abdomen", "ct"): {
        _T.AIR: -1000, _T.FAT: -100, _T.BONE: 700, _T.MARROW: 190, _T.CSF: 18, _T.GREY: 38, _T.MUSCLE: 62,
        _T.LIVER: 108, _T.SPLEEN: 122, _T.KIDNEY_CORTEX: 195, _T.KIDNEY_MEDULLA: 165, _T.VESSEL: 155, _T.DISC: 85,
        _T.BOWEL_WALL: 85, _T.BOWEL_CONTENT: 30, _T.FLUID: 10, _T.GAS: -950, _T.LUNG: -840, _T.PANCREAS: 98,
    },
}  # fmt: skip
_LESIONS: dict[tuple[str, str], tuple[float, ...]] = {
    ("white matter", "flair"): (0.95,),
    ("white matter", "t1"): (0.28,),
    ("white matter", "t2"): (0.82,),
    ("white matter", "ct"): (70.0, 12.0),
    ("liver", "t1"): (0.30,),
    ("liver", "t2"): (0.60,),
    ("liver", "ct"): (48.0,),
    ("kidney", "t1"): (0.17,),
    ("kidney", "t2"): (0.93,),
    ("kidney", "ct"): (10.0, 75.0),
}
_HOST = {"white matter": Tissue.WHITE, "liver": Tissue.LIVER, "kidney": Tissue.KIDNEY_CORTEX}
_TEXTURED = (
    Tissue.GREY, Tissue.WHITE, Tissue.NUCLEI, Tissue.LIVER, Tissue.SPLEEN, Tissue.KIDNEY_CORTEX, Tissue.MUSCLE,
    Tissue.MARROW, Tissue.PANCREAS, Tissue.BOWEL_CONTENT,
)  # fmt: skip

CONTRASTS = {"head": ("flair", "t1", "t2", "ct", "random"), "abdomen": ("ct", "t1", "t2", "random")}
"""Names of the contrasts of each anatomy."""


@dataclass(frozen=True)
class Contrast:
    """Intensities of tissues and lesion, and the imperfections of the acquisition.

    Attributes:
        means: (classes of :class:`Tissue`,) float64; HU for CT, else 0 to 1.
        texture: standard deviation of the smooth texture of each tissue, in the same shape and unit.
        lesion: mean inside the lesion.
        kind: appearance of the lesion relative to its surroundings, as in ``Phantom.lesion_kind``.
        hounsfield: whether the values are HU.
        shading: standard deviation of the logarithm of the bias field.
        noise: standard deviation of the noise, in the unit of the means.
        blur: standard deviation of the blur in the plane, in voxels; through the plane it is 0.6 of this.
    """

    means: np.ndarray
    texture: np.ndarray
    lesion: float
    kind: str
    hounsfield: bool
    shading: float
    noise: float
    blur: float


def choose_contrast(anatomy: str, name: str, site: str, seed: int) -> Contrast:
    """The contrast of a phantom.

    ``"random"`` is domain randomisation in the manner of SynthSeg (Billot et al., Medical Image Analysis 86, 2023,
    section 3.2): mean and texture of every tissue are drawn at random, independently of any sequence. Shading, noise
    and blur are drawn at random, too. The lesion is brighter or darker than its surroundings by 0.2 to 0.5.

    Args:
        anatomy: ``"head"`` or ``"abdomen"``.
        name: one of ``CONTRASTS[anatomy]``.
        site: where the lesion sits: ``"white matter"``, ``"liver"``, ``"kidney"``.
        seed: decides what is drawn, independently of the phantom's anatomy.

    Raises:
        ConfigurationError: if the anatomy does not have this contrast.

    Example:
        >>> choose_contrast("head", "t1", "white matter", seed=0).kind
        'hypointense'
    """
    if name not in CONTRASTS[anatomy]:
        raise ConfigurationError(f"contrast is {name!r}, but a phantom {anatomy} has: {', '.join(CONTRASTS[anatomy])}")
    # A separate random generator, so that a seed has the same anatomy in every contrast.
    rng = np.random.default_rng([seed, 1])
    host = _HOST[site]
    if name == "random":
        return _random_contrast(rng, host)
    table = _MEANS[anatomy, name]
    means, texture = np.zeros(len(Tissue)), np.zeros(len(Tissue))
    ct = name == "ct"
    for tissue, value in table.items():
        means[tissue] = value
        texture[tissue] = (2.0 if ct else 0.015) if tissue in _TEXTURED else 0.0
    if ct:
        means[Tissue.BONE] += float(rng.uniform(-200.0, 200.0)) if anatomy == "head" else 0.0
        texture[Tissue.MARROW], texture[Tissue.BOWEL_CONTENT] = 35.0, 15.0
    lesion = float(rng.choice(_LESIONS[site, name]))
    return Contrast(
        means=means,
        texture=texture,
        lesion=lesion,
        kind=("hyper" if lesion > means[host] else "hypo") + ("dense" if ct else "intense"),
        hounsfield=ct,
        shading=0.0 if ct else 0.06,
        noise=(5.0 if anatomy == "head" else 13.0) if ct else 0.018,
        blur=0.7 if ct else 0.5,
    )


def _random_contrast(rng: np.random.Generator, host: Tissue) -> Contrast:
    means = rng.uniform(0.05, 1.0, len(Tissue))
    means[[Tissue.AIR, Tissue.GAS]] = rng.uniform(0.0, 0.06)
    texture = rng.uniform(0.0, 0.05, len(Tissue))
    texture[[Tissue.AIR, Tissue.GAS]] = 0.0
    step = float(rng.uniform(0.2, 0.5))
    brighter = bool(rng.random() < 0.5) if step < means[host] < 1.0 - step else bool(means[host] < 0.5)
    return Contrast(
        means=means,
        texture=texture,
        lesion=float(means[host]) + (step if brighter else -step),
        kind="hyperintense" if brighter else "hypointense",
        hounsfield=False,
        shading=float(rng.uniform(0.02, 0.15)),
        noise=float(rng.uniform(0.005, 0.04)),
        blur=float(rng.uniform(0.3, 1.0)),
    )
