"""Calibration with normal reference scans: made from a folder of results, saved as JSON, checked before use."""

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
from monai_zsad.result_files import CASE_FILES
from monai_zsad.writers.facts import software
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.records.fingerprint import content_hash

__all__ = ["SCHEMA", "SCHEMA_VERSION", "Calibration", "ReferenceScan", "collect", "load_calibration"]

SCHEMA = "monai-zsad/calibration"
SCHEMA_VERSION = 1
"""Version of the JSON file. It increases when a field is removed or changes its meaning."""

_FILE, _FINDINGS, _FINDINGS_VERSION = CASE_FILES["findings"].name, "monai-zsad/findings", 1
# As in findings.json: if all scores are rounded in the same way, the order of the scans and the guarantee stay.
_DECIMALS = 6

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferenceScan:
    """Scores of one reference scan.

    Attributes:
        case: name of the case.
        volume_score: score of the volume, in [0, 1].
        peak_score: highest peak score of its candidates. ``None`` if the scan has no candidate.
    """

    case: str
    volume_score: float
    peak_score: float | None

    def __post_init__(self) -> None:
        for name in ("volume_score", "peak_score"):
            value = getattr(self, name)
            if not (math.isfinite(value) if value is not None else name == "peak_score"):
                raise ConfigurationError(f"{name}={value!r} of reference scan {self.case} is not a finite number.")


@dataclass(frozen=True)
class Calibration:
    """Scores of n normal reference scans, and the model and settings that made them.

    :mod:`monai_zsad.metrics.conformal` computes the p-values and thresholds. A candidate is compared with the highest
    peak of each reference scan. So its p-value is valid for every candidate of a scan (see
    :class:`monai_zsad.transforms.CalibratedCandidates`). The p-value of the volume and the p-values of the candidates
    are two tests. A user who acts on both can have twice the rate of false alarms.

    The guarantee needs new normal scans that are exchangeable with the reference scans. They come from the same kind of
    patients, scanners and protocols, and nobody used them to train or to choose the model. All reference scans must be
    normal. If one has a lesion, p-values increase, and the calibrated model misses more lesions.

    Attributes:
        scans: the reference scans.
        made_from: ``model``, ``modality``, ``intensity``, ``settings`` (of the candidates), ``volume_score_method``. A
            run must have the same values.
        bundle: name of the bundle. It is information only.
        software: versions of the software that made the results.

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
            raise ConfigurationError("scans is empty: give at least one reference scan.")

    @property
    def n(self) -> int:
        """Number of reference scans."""
        return len(self.scans)

    def volume_p_value(self, score: float) -> float:
        """P-value of the score of a volume."""
        return float(conformal_p_values([_rounded(scan.volume_score) for scan in self.scans], [_rounded(score)])[0])

    def candidate_p_values(self, peaks: Sequence[float]) -> list[float]:
        """P-value of each candidate, from its peak score."""
        return conformal_p_values(self._peaks, [_rounded(peak) for peak in peaks]).tolist()

    def threshold(self, alpha: float) -> float:
        """Threshold of the peak score: a normal scan has a candidate above it with a probability of at most ``alpha``.

        It is minus infinity if most reference scans (a share of about ``1 - alpha``) have no candidate.

        Raises:
            ConfigurationError: if alpha is out of range, or if there are too few reference scans for it.
        """
        return conformal_threshold(self._peaks, alpha)

    @property
    def _peaks(self) -> list[float]:
        return [-float("inf") if scan.peak_score is None else _rounded(scan.peak_score) for scan in self.scans]

    def check(self, run: Mapping[str, Any]) -> None:
        """Compare a run with the run that made the calibration, and refuse it if they differ.

        Software versions and the name of the bundle are not compared. The part of ``intensity`` in brackets is not
        compared either, because it is the intensity range of one scan.

        Args:
            run: the keys ``model``, ``scan`` (``modality``, ``intensity``), ``settings`` and ``volume_score_method`` as
                in ``findings.json``.

        Raises:
            ConfigurationError: if values differ. The message names their keys and both values.
        """
        if differences := _differences(_facts(run), dict(self.made_from)):
            raise ConfigurationError(
                f"the calibration does not fit: {_listed(differences, 'the calibration was made with')}. Make one with "
                "this configuration (`python -m monai_zsad calibrate`), or run without a calibration."
            )

    def summary(self, alpha: float | None = None) -> dict[str, Any]:
        """The values that a report shows: ``sha256``, ``n``, ``bundle``, ``alpha``, ``peak_threshold``.

        ``peak_threshold`` is ``None`` if there is no ``alpha``, or if every candidate is above the threshold.
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
        """The content of the JSON file."""
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
        """Write the JSON file. If this fails, an older file stays as it is.

        Raises:
            OutputError: if the file cannot be written.
        """
        target = Path(path).expanduser()
        with atomic_path(target) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return target


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read a file that :meth:`Calibration.save` wrote.

    Args:
        path: of the file.

    Returns:
        The calibration.

    Raises:
        InputError: if the file does not exist, is not a calibration, or is damaged.
    """
    content = _read_json(Path(path).expanduser(), SCHEMA, SCHEMA_VERSION)
    try:
        scans = tuple(_reference_scan(scan, scan["peak_score"]) for scan in content["scans"])
        count = content["n"]
        calibration = Calibration(scans, dict(content["made_from"]), content.get("bundle"), dict(content["software"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not a usable calibration ({error!r}); make it again") from error
    if count != len(scans):
        raise InputError(f"{path}: has n={count}, but {len(scans)} reference scans; make it again")
    return calibration


def collect(results_folder: str | os.PathLike[str], bundle: str | None = None) -> Calibration:
    """Make a calibration from the results of normal reference scans.

    It uses every ``findings.json`` in the folder and its subfolders, and logs the scores of each scan.

    Args:
        results_folder: output folder of a run on the reference scans.
        bundle: name of the bundle that made the results.

    Raises:
        InputError: if there are no results, if a file cannot be read, or if two files have the same case.
        ConfigurationError: if the results come from different models, intensities or settings (the message names the
            key), or if an earlier calibration removed candidates.
    """
    folder, scans, first = Path(results_folder).expanduser(), dict[str, ReferenceScan](), dict[str, Any]()
    for path in sorted(folder.rglob(_FILE)):
        findings = _read_json(path, _FINDINGS, _FINDINGS_VERSION)
        try:
            peaks = [float(candidate["peak_score"]) for candidate in findings["candidates"]]
            scan, facts = _reference_scan(findings, max(peaks, default=None)), _facts(findings)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: the findings are not complete ({error!r}); screen the scan again") from error
        if (findings.get("calibration") or {}).get("alpha") is not None:
            raise ConfigurationError(
                f"{path}: an earlier calibration removed candidates; screen the reference scans without a calibration"
            )
        if scan.case in scans:
            raise InputError(f"{folder}: two files have the case {scan.case}; remove one of them")
        first = first or facts
        if differences := _differences(facts, first):
            raise ConfigurationError(
                f"{path}: {_listed(differences, f'case {next(iter(scans))} was made with')}; all reference scans need "
                "the same model, settings and modality: keep the results of one run and one modality"
            )
        scans[scan.case] = scan
        _logger.info("reference scan %s: volume score %g, highest peak %s", *asdict(scan).values())
    if not scans:
        raise InputError(f"{folder}: has no {_FILE}; give the results of this version on reference scans")
    return Calibration(tuple(scans.values()), first, bundle)


def _reference_scan(content: Mapping[str, Any], peak: Any) -> ReferenceScan:
    return ReferenceScan(str(content["case"]), float(content["volume_score"]), None if peak is None else float(peak))


def _rounded(score: float) -> float:
    return round(float(score), _DECIMALS)


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a run and its calibration must share, in the types of JSON."""
    scan = run.get("scan") or {}
    intensity = scan.get("intensity")
    facts = {
        "model": run.get("model") or {},
        # What the user said is in the prompts, and so in the model.
        "modality": None if scan.get("modality_source") == "option" else scan.get("modality"),
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
    """Dotted names, with both values, that differ. A missing value counts as None."""
    left, right = dict(_flat(found)), dict(_flat(expected))
    both = ((name, left.get(name), right.get(name)) for name in sorted(left.keys() | right.keys()))
    return [(name, one, other) for name, one, other in both if one != other]


def _listed(differences: Sequence[tuple[str, Any, Any]], other: str) -> str:
    some = "; ".join(f"{name} is {found!r}, {other} {expected!r}" for name, found, expected in differences[:3])
    return some + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")


def _read_json(path: Path, schema: str, version: int) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except ValueError as error:
        raise InputError(f"{path}: is not a JSON file ({error}); make it again") from error
    found = (content.get("schema"), content.get("schema_version")) if isinstance(content, dict) else (None, None)
    if found != (schema, version):
        raise InputError(f"{path}: has schema {found[0]!r}, version {found[1]!r}; give {schema!r}, version {version}")
    return content
