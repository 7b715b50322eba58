"""Calibration on reference scans taken as normal: made from a folder of results, kept as JSON, checked before use."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.metrics.conformal import conformal_p_values, conformal_threshold
from monai_zsad.writers.facts import software
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.manifest import content_hash

__all__ = ["SCHEMA", "SCHEMA_VERSION", "Calibration", "ReferenceScan", "collect", "load_calibration"]

SCHEMA = "monai-zsad/calibration"
SCHEMA_VERSION = 1
"""Version of the JSON's layout; it grows when a field changes its meaning or goes."""

_FINDINGS, _FINDINGS_VERSION = "monai-zsad/findings", 1
# As many as findings.json keeps of a peak: rounding both sides alike keeps the order of scans, and so the guarantee.
_DECIMALS = 6

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferenceScan:
    """Scores of one reference scan.

    Attributes:
        case: its id.
        volume_score: score of the volume.
        peak_score: highest peak of its candidates; ``None`` if it has none.
    """

    case: str
    volume_score: float
    peak_score: float | None

    def __post_init__(self) -> None:
        for name in ("volume_score", "peak_score"):
            value = getattr(self, name)
            if not (math.isfinite(value) if value is not None else name == "peak_score"):
                raise ConfigurationError(f"{name}={value!r} of reference scan {self.case}: a finite number is needed.")


@dataclass(frozen=True)
class Calibration:
    """Scores of n reference scans taken as normal, and what they were made by.

    P-values and thresholds are those of :mod:`monai_zsad.metrics.conformal`; candidates are compared with the highest
    peak of each reference scan, so that their p-values hold for any candidate of a scan (see
    :class:`monai_zsad.transforms.CalibratedCandidates`). The volume's p-value and those of the candidates are two
    tests; who acts on either has up to twice the rate.

    The guarantee needs new normal scans that are exchangeable with the reference scans: the same kind of patients,
    scanners and protocols, scans that served neither to train nor to choose the model, and reference scans that are
    normal. A lesion among them raises p-values, so that lesions are missed more often.

    Attributes:
        scans: the reference scans.
        made_from: ``model``, ``modality``, ``intensity``, ``settings`` (of the candidates), ``volume_score_method``: a
            run has to agree with all of them.
        bundle: name of the bundle, for the reader.
        software: versions that made the results.

    Example:
        >>> scans = tuple(ReferenceScan(f"s{i}", i / 20, i / 25) for i in range(19))
        >>> calibration = Calibration(scans, {"model": {"method": "crane"}})
        >>> calibration.volume_p_value(0.95), calibration.candidate_p_values([0.8, 0.7, 0.1])
        (0.05, [0.05, 0.1, 0.85])
        >>> calibration.threshold(0.05)
        0.72
        >>> calibration.check({"model": {"method": "anoclip"}})
        Traceback (most recent call last):
        monai_zsad.errors.ConfigurationError: the calibration does not fit: model.method is 'anoclip', ...
    """

    scans: tuple[ReferenceScan, ...]
    made_from: Mapping[str, Any]
    bundle: str | None = None
    software: Mapping[str, str] = field(default_factory=software)

    def __post_init__(self) -> None:
        if not self.scans:
            raise ConfigurationError("scans is empty: at least one reference scan is needed.")

    @property
    def n(self) -> int:
        """Number of reference scans."""
        return len(self.scans)

    def volume_p_value(self, score: float) -> float:
        """P-value of a volume's score."""
        return float(conformal_p_values([_rounded(scan.volume_score) for scan in self.scans], [_rounded(score)])[0])

    def candidate_p_values(self, peaks: Sequence[float]) -> list[float]:
        """P-value of each candidate, by its peak score."""
        return conformal_p_values(self._peaks, [_rounded(peak) for peak in peaks]).tolist()

    def threshold(self, alpha: float) -> float:
        """Peak score above which a normal scan has any candidate with a probability of at most ``alpha``.

        Minus infinity where at least that share of the reference scans has no candidate: then any candidate counts.

        Raises:
            ConfigurationError: alpha is out of range, or there are too few reference scans for it.
        """
        return conformal_threshold(self._peaks, alpha)

    @property
    def _peaks(self) -> list[float]:
        return [-float("inf") if scan.peak_score is None else _rounded(scan.peak_score) for scan in self.scans]

    def check(self, run: Mapping[str, Any]) -> None:
        """Refuse a run that differs from the one that made the calibration.

        Software versions and the bundle's name are not compared, nor the part of ``intensity`` in brackets, which tells
        the scan's own range.

        Args:
            run: with the keys ``model``, ``scan`` (``modality``, ``intensity``), ``settings``, ``volume_score_method``
                of ``findings.json``.

        Raises:
            ConfigurationError: names the keys that differ, and both values.
        """
        if differences := _differences(_facts(run), dict(self.made_from)):
            raise ConfigurationError(
                f"the calibration does not fit: {_listed(differences, 'the calibration was made with')}. Make one with "
                "this configuration (`python -m monai_zsad calibrate`), or run without."
            )

    def summary(self, alpha: float | None = None) -> dict[str, Any]:
        """What a report says of it: ``sha256``, ``n``, ``bundle``, ``alpha``, ``peak_threshold``.

        ``peak_threshold`` is ``None`` without ``alpha``, and where any candidate is above it.
        """
        threshold = -float("inf") if alpha is None else self.threshold(alpha)
        return {
            "schema_version": SCHEMA_VERSION,
            "sha256": content_hash(self.as_dict()),
            "n": self.n,
            "bundle": self.bundle,
            "alpha": alpha,
            "peak_threshold": None if threshold == -float("inf") else threshold,
        }

    def as_dict(self) -> dict[str, Any]:
        """The JSON's content."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "n": self.n,
            "bundle": self.bundle,
            "made_from": dict(self.made_from),
            "model_sha256": content_hash(self.made_from.get("model") or {}),
            "scans": [asdict(scan) for scan in self.scans],
            "software": dict(self.software),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the JSON, whole or not at all.

        Raises:
            OutputError: if it cannot be written.
        """
        target = Path(path).expanduser()
        with atomic_path(target) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return target


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read what :meth:`Calibration.save` wrote.

    Raises:
        InputError: if the file does not exist, is no calibration, or was changed so that it is none any more.

    Example:
        >>> import tempfile
        >>> saved = Calibration((ReferenceScan("s1", 0.25, None),), {"model": {}}).save(tempfile.mkdtemp() + "/c.json")
        >>> load_calibration(saved).scans
        (ReferenceScan(case='s1', volume_score=0.25, peak_score=None),)
    """
    content = _read_json(Path(path).expanduser(), SCHEMA, SCHEMA_VERSION)
    try:
        scans = tuple(
            ReferenceScan(str(scan["case"]), float(scan["volume_score"]), _number(scan["peak_score"]))
            for scan in content["scans"]
        )
        count = content["n"]
        calibration = Calibration(scans, dict(content["made_from"]), content.get("bundle"), dict(content["software"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no usable calibration ({error!r}); make it again") from error
    if count != len(scans):
        raise InputError(f"{path}: says n={count}, but lists {len(scans)} reference scans; make it again")
    return calibration


def collect(results_folder: str | os.PathLike[str], bundle: str | None = None) -> Calibration:
    """Make a calibration from the results of reference scans taken as normal.

    Every ``*_findings.json`` below the folder counts. What was used stands in ``scans`` and is logged.

    Args:
        results_folder: output folder of a run over the reference scans.
        bundle: name of the bundle that made them.

    Raises:
        InputError: if there are none, one cannot be read, or a case comes twice.
        ConfigurationError: if they were made by different models, intensities or settings (names the key), or with
            candidates dropped by an earlier calibration.
    """
    folder = Path(results_folder).expanduser()
    scans: dict[str, ReferenceScan] = {}
    first: dict[str, Any] = {}
    for path in sorted(folder.rglob("*_findings.json")):
        findings = _read_json(path, _FINDINGS, _FINDINGS_VERSION)
        try:
            scan, facts = _reference(findings), _facts(findings)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: is no complete list of findings ({error!r}); screen the scan again") from error
        if (findings.get("calibration") or {}).get("alpha") is not None:
            raise ConfigurationError(
                f"{path}: candidates were dropped by an earlier calibration; screen the reference scans without one"
            )
        if scan.case in scans:
            raise InputError(f"{folder}: case {scan.case} comes twice; each reference scan may count once")
        first = first or facts
        if differences := _differences(facts, first):
            raise ConfigurationError(
                f"{path}: {_listed(differences, f'case {next(iter(scans))} was made with')}; reference scans have to "
                "be screened alike: keep those of one run, and of one modality"
            )
        scans[scan.case] = scan
        _logger.info("reference scan %s: volume score %g, highest peak %s", *asdict(scan).values())
    if not scans:
        raise InputError(f"{folder}: holds no *_findings.json; give the output folder of a run over reference scans")
    return Calibration(tuple(scans.values()), first, bundle)


def _reference(findings: Mapping[str, Any]) -> ReferenceScan:
    peaks = [float(candidate["peak_score"]) for candidate in findings["candidates"]]
    return ReferenceScan(str(findings["case"]), float(findings["volume_score"]), max(peaks, default=None))


def _rounded(score: float) -> float:
    return round(float(score), _DECIMALS)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a calibration depends on, as JSON would return it."""
    scan = run.get("scan") or {}
    intensity = scan.get("intensity")
    facts = {
        "model": run.get("model") or {},
        "modality": scan.get("modality"),
        "intensity": intensity.partition(" (")[0] if isinstance(intensity, str) else intensity,
        "settings": run.get("settings") or {},
        "volume_score_method": run.get("volume_score_method"),
    }
    return json.loads(json.dumps(facts, default=str))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Dotted names whose values differ; a missing one counts as None."""
    left, right = dict(_flat(found)), dict(_flat(expected))
    names = sorted(left.keys() | right.keys())
    return [(name, left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)]


def _listed(differences: Sequence[tuple[str, Any, Any]], other: str) -> str:
    some = "; ".join(f"{name} is {found!r}, {other} {expected!r}" for name, found, expected in differences[:3])
    return some + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")


def _read_json(path: Path, schema: str, version: int) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}); write it again") from error
    found = (content.get("schema"), content.get("schema_version")) if isinstance(content, dict) else (None, None)
    if found != (schema, version):
        raise InputError(f"{path}: has the schema {found[0]!r}, version {found[1]!r}; {schema!r}, {version} is read")
    return content
