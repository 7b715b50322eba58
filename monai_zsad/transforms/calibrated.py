"""P-values for a scan's score and its lesion candidates, from a calibration on normal scans."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from monai_zsad.errors import InputError
from monai_zsad.transforms.lesion_candidate import LesionCandidate

__all__ = [
    "CalibratedCandidates",
    "CalibratedCandidatesD",
    "CalibratedCandidatesDict",
    "CalibratedCandidatesd",
    "ScoreCalibration",
]


class ScoreCalibration(Protocol):
    """A calibration as these transforms need it, such as ``monai_zsad.workflow.calibration.Calibration``."""

    def check(self, run: Mapping[str, Any]) -> None:
        """Refuse a run that differs from the one that the calibration was made with.

        Args:
            run: ``model``, ``settings`` and ``scan`` of the run.
        """

    def candidate_p_values(self, peaks: Sequence[float]) -> list[float]:
        """P-value of each peak score.

        Args:
            peaks: peak scores of a scan's candidates, in [0, 1].

        Returns:
            As many p-values, in (0, 1].
        """

    def volume_p_value(self, score: float) -> float:
        """P-value of a volume's score.

        Args:
            score: of the volume, in [0, 1].

        Returns:
            In (0, 1].
        """

    def threshold(self, alpha: float) -> float:
        """Peak score above which a candidate's p-value is at most ``alpha``; refused if there is none.

        Args:
            alpha: rate of false positives, within (0, 1).

        Returns:
            A score in [0, 1], or minus infinity.
        """

    def summary(self, alpha: float | None = None) -> dict[str, Any]:
        """Summary for the findings.

        Args:
            alpha: the rate that candidates were held to, if any.

        Returns:
            Plain values.
        """


class CalibratedCandidates(Transform):
    """Give each lesion candidate a p-value, and drop those that are not unusual enough.

    MONAI has no transform that relates a score to reference scans.

    A candidate's peak score is compared with the highest peak of each reference scan. So, in a normal scan, the
    probability that any candidate has a p-value of alpha or less is at most alpha, however many candidates it has; no
    further correction for their number is needed. What is guaranteed, and when, is said at
    :func:`monai_zsad.metrics.conformal_p_values`.

    Args:
        calibration: such as :func:`monai_zsad.workflow.calibration.load_calibration` gives.
        alpha: candidates with a larger p-value are dropped; ``None`` keeps all.

    Raises:
        ConfigurationError: alpha is out of range, or the calibration has too few reference scans for it.

    Example:
        >>> from monai_zsad.transforms import LesionCandidates
        >>> class Halves:
        ...     def candidate_p_values(self, peaks):
        ...         return [0.1 if peak > 0.8 else 0.9 for peak in peaks]
        ...     def threshold(self, alpha):
        ...         return 0.8
        >>> anomaly = torch.zeros(1, 9, 9, 9)
        >>> anomaly[:, 1:4, 1:4, 1:4], anomaly[:, 5:8, 5:8, 5:8] = 0.7, 0.9
        >>> labels, candidates = LesionCandidates(threshold=0.5)(anomaly)
        >>> kept, p_values, labels = CalibratedCandidates(Halves(), alpha=0.2)(candidates, labels)
        >>> [found.peak_score for found in kept], p_values, int(labels.max())
        ([0.8999999761581421], [0.1], 1)
    """

    def __init__(self, calibration: ScoreCalibration, alpha: float | None = None) -> None:
        if alpha is not None:
            calibration.threshold(alpha)
        self.calibration = calibration
        self.alpha = alpha

    def __call__(
        self, candidates: Sequence[LesionCandidate], labels: torch.Tensor | None = None
    ) -> tuple[list[LesionCandidate], list[float], torch.Tensor | None]:
        """Judge the candidates of one scan.

        Args:
            candidates: as :class:`LesionCandidates` returns them.
            labels: their label map (1, X, Y, Z).

        Returns:
            The candidates that are kept, in their order and with their ids; their p-values; the label map, in which
            the dropped ones are 0.
        """
        p_values = self.calibration.candidate_p_values([found.peak_score for found in candidates])
        judged = list(zip(candidates, p_values, strict=True))
        kept = [(found, p) for found, p in judged if self.alpha is None or p <= self.alpha]
        dropped = [found.id for found, p in judged if self.alpha is not None and p > self.alpha]
        if labels is not None and dropped:
            # PyTorch supports neither lookup nor fill for uint16.
            ids = labels.detach().cpu().numpy()
            left = torch.from_numpy(np.where(np.isin(ids, dropped), 0, ids).astype(ids.dtype)).to(labels.device)
            labels = MetaTensor(left).copy_meta_from(labels) if isinstance(labels, MetaTensor) else left
        return [found for found, _ in kept], [p for _, p in kept], labels


class CalibratedCandidatesd(MapTransform):
    """Dictionary form of :class:`CalibratedCandidates`, with the p-value of the volume; after ``LesionCandidatesd``.

    Of the map ``"pred"``, the candidates under ``"pred_candidates"`` and their label map ``"pred_labels"`` are replaced
    where some are dropped; ``"pred_p_values"`` is the list of the candidates' p-values. ``volume_p_value``, that of
    ``volume_score``, and ``calibration``, its summary, are added. Each case is refused that the calibration does not
    fit: another model, other intensities, other settings.

    Args:
        keys: keys of the anomaly maps. One key, as a case has one ``volume_score``.
        calibration: see :class:`CalibratedCandidates`.
        meta: the bundle's description of its model, or a function that returns it, as for the writers.
        settings: those of the candidates, as written into ``findings.json``.
        alpha: see :class:`CalibratedCandidates`.
        image_key: the scan, whose metadata tell modality and intensity.
        allow_missing_keys: do not raise where a key is missing.

    Example:
        >>> class Half:
        ...     def check(self, run):
        ...         print(run["model"], run["scan"])
        ...     def candidate_p_values(self, peaks):
        ...         return [0.5 for _ in peaks]
        ...     def volume_p_value(self, score):
        ...         return 0.25
        ...     def summary(self, alpha):
        ...         return {"n": 3, "alpha": alpha}
        >>> data = {"pred": torch.zeros(1, 2, 2, 2), "pred_candidates": [], "volume_score": 0.3, "modality": "MR"}
        >>> out = CalibratedCandidatesd("pred", Half(), meta={"method": "crane"})(data)
        {'method': 'crane'} {'modality': 'MR', 'intensity': None}
        >>> out["pred_p_values"], out["volume_p_value"], out["calibration"]
        ([], 0.25, {'n': 3, 'alpha': None})
    """

    def __init__(
        self,
        keys: KeysCollection,
        calibration: ScoreCalibration,
        meta: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        settings: Mapping[str, Any] | None = None,
        alpha: float | None = None,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.judge = CalibratedCandidates(calibration, alpha)
        self.meta = meta
        self.settings = dict(settings or {})
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the p-values.

        Raises:
            ConfigurationError: the calibration does not fit the run; names what differs.
            InputError: candidates or volume score are missing.
        """
        d = dict(data)
        calibration = self.judge.calibration
        for key in self.key_iterator(d):
            names = f"{key}_candidates", f"{key}_labels"
            for needed, source in {names[0]: "LesionCandidatesd", "volume_score": "VolumeScored"}.items():
                if d.get(needed) is None:
                    raise InputError(f"no {needed!r} in the data: put {source} before CalibratedCandidatesd.")
            calibration.check(self._run(d, key))
            d[names[0]], d[f"{key}_p_values"], labels = self.judge(d[names[0]], d.get(names[1]))
            if labels is not None:
                d[names[1]] = labels
            d["volume_p_value"] = calibration.volume_p_value(float(d["volume_score"]))
            d["calibration"] = calibration.summary(self.judge.alpha)
        return d

    def _run(self, data: Mapping[Hashable, Any], key: Hashable) -> dict[str, Any]:
        """The run as ``findings.json`` describes it."""
        known: dict[Hashable, Any] = {}
        for volume in (data.get(self.image_key), data[key]):
            known.update(volume.meta if isinstance(volume, MetaTensor) else {})
        scan = {name: data.get(name) or known.get(name) or None for name in ("modality", "intensity")}
        model = (self.meta() if callable(self.meta) else self.meta) or {}
        return {
            "model": dict(model),
            "scan": scan,
            "settings": self.settings,
            "volume_score_method": data.get("volume_score_method"),
        }


CalibratedCandidatesD = CalibratedCandidatesDict = CalibratedCandidatesd
