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
    """Methods of a calibration that these transforms need, as in ``monai_zsad.workflow.calibration.Calibration``."""

    def check(self, run: Mapping[str, Any]) -> None:
        """Raise an error if the run differs from the run that the calibration was made with.

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
            score: score of the volume, in [0, 1].

        Returns:
            The p-value, in (0, 1].
        """

    def threshold(self, alpha: float) -> float:
        """Peak score above which a candidate's p-value is at most ``alpha``. Without one, an error is raised.

        Args:
            alpha: rate of false positives, within (0, 1).

        Returns:
            A score in [0, 1], or minus infinity.
        """

    def summary(self, alpha: float | None = None) -> dict[str, Any]:
        """Summary for the findings.

        Args:
            alpha: the rate of false positives that the candidates were selected with, if they were selected.

        Returns:
            A dictionary of plain values.
        """


class CalibratedCandidates(Transform):
    """Give each lesion candidate a p-value, and drop the candidates with a p-value that is too large.

    MONAI has no transform that compares a score with reference scans.

    A candidate's peak score is compared with the highest peak of each reference scan. So, in a normal scan, the
    probability that any candidate has a p-value of alpha or less is at most alpha. This holds for any number of
    candidates, so no correction for their number is needed. :func:`monai_zsad.metrics.conformal_p_values` describes
    this guarantee and its conditions.

    Args:
        calibration: the calibration, for example from :func:`monai_zsad.workflow.calibration.load_calibration`.
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
        """Add p-values to the candidates of one scan, and select candidates by them.

        Args:
            candidates: the result of :class:`LesionCandidates`.
            labels: their label map (1, X, Y, Z).

        Returns:
            The candidates that are kept, in the same order and with the same ids; their p-values; and the label map, in
            which dropped candidates are 0.
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

    For the map ``"pred"``, the transform reads the candidates under ``"pred_candidates"`` and their label map under
    ``"pred_labels"``. If it drops candidates, it replaces both. It adds ``"pred_p_values"`` (the list of the
    candidates' p-values), ``volume_p_value`` (the p-value of ``volume_score``) and ``calibration`` (a summary of the
    calibration). It refuses a case if the calibration does not fit: another model, other intensities or other settings.

    Args:
        keys: key of the anomaly map. Only one key, because a case has one ``volume_score``.
        calibration: see :class:`CalibratedCandidates`.
        meta: the bundle's description of its model, or a function that returns it, as for the writers.
        settings: settings of the candidates, as they are written into ``findings.json``.
        alpha: see :class:`CalibratedCandidates`.
        image_key: key of the scan. Its metadata contain modality and intensity.
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
            ConfigurationError: the calibration does not fit the run; the message names the difference.
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
