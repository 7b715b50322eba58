"""Attributes that all DICOM results share: algorithm, codes, UIDs and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from monai_zsad._version import __version__
from monai_zsad.writers.dicom.source import SourceSeries
from monai_zsad.writers.facts import SEEDED_WARNING, is_seeded

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

__all__ = [
    "Algorithm",
    "algorithm",
    "anomaly_score",
    "identity",
    "no_candidate",
    "p_value",
    "remarks",
    "screening_result",
]

_PRODUCT = "monai-zsad"
_SCHEME = "99MONAIZSAD"
_RESEARCH = "Research output, not for clinical use"
_TITLES = {"seg": "Lesion candidates", "pm": "Anomaly map", "sr": "Lesion candidate measurements", "sc": "Key slices"}
_LONGEST = 64
_LARGEST_NUMBER = 2**31 - 1


class Algorithm(NamedTuple):
    """Name, version and parameters of a model, as DICOM describes algorithms."""

    name: str
    version: str
    parameters: dict[str, str]


def algorithm(model: Mapping[str, Any]) -> Algorithm:
    """The algorithm for DICOM, from a bundle's description of its model.

    Example:
        >>> algorithm({"method": "Crane", "weights": {"clip": {"name": "ViT-L-14-336:openai"}}})[::2]
        ('monai-zsad Crane', {'weights.clip': 'ViT-L-14-336:openai'})
    """
    method = str(model.get("method") or "").strip()
    parameters = {name: str(model[name]) for name in ("architecture", "precision", "image_size") if model.get(name)}
    weights = model.get("weights")
    for part, record in (weights if isinstance(weights, Mapping) else {}).items():
        name = record.get("name") if isinstance(record, Mapping) else record
        parameters[f"weights.{part}"] = str(name)
    return Algorithm(f"{_PRODUCT} {method}".strip()[:_LONGEST], __version__, parameters)


def remarks(model: Mapping[str, Any], source: SourceSeries) -> list[str]:
    """Sentences that every object must contain; the last one is the most important."""
    return [_RESEARCH, *source.remarks, *([SEEDED_WARNING] if is_seeded(model) else [])]


def anomaly_score() -> Code:
    """Code of the quantity of the map; no published terminology has one."""
    return _own("anomaly-score", "Anomaly score")


def p_value() -> Code:
    """Code of the p-value from normal reference scans; DICOM has only a code for the level of significance."""
    return _own("conformal-p-value", "Conformal p-value among reference scans")


def screening_result() -> Code:
    """Code of the question; :func:`no_candidate` is its answer."""
    return _own("screening-result", "Result of screening")


def no_candidate() -> Code:
    """Code of the answer: nothing exceeds the threshold. This does not mean that there is no lesion."""
    return _own("no-candidate", "No lesion candidate above the threshold")


def _own(value: str, meaning: str) -> Code:
    from pydicom.sr.coding import Code

    return Code(value, _SCHEME, meaning)


def identity(source: SourceSeries, model: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Arguments of highdicom's constructors that identify an object and its maker, with new UIDs.

    Args:
        source: the series that the object was made from. Its series number determines the series number of the object.
        model: the bundle's description of its model.
        kind: ``"seg"``, ``"pm"``, ``"sr"`` or ``"sc"``.
    """
    from highdicom import UID
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    title = f"{_TITLES[kind]} (not for clinical use)"
    if is_seeded(model):
        title = f"RANDOM WEIGHTS, meaningless: {_TITLES[kind]}"
    number = 100 * abs(int(source.images[0].get("SeriesNumber") or 0)) + 1 + list(_TITLES).index(kind)
    return {
        "series_instance_uid": UID(),
        "sop_instance_uid": UID(),
        "series_number": number if number <= _LARGEST_NUMBER else 1 + list(_TITLES).index(kind),
        "instance_number": 1,
        "series_description": title[:_LONGEST],
        "manufacturer": _PRODUCT,
        "manufacturer_model_name": algorithm(model).name,
        "software_versions": __version__,
        "device_serial_number": "N/A",
        "coding_schemes": [CodingSchemeIdentificationItem(_SCHEME, name=_PRODUCT, version=__version__)],
    }
