from __future__ import annotations

import torch
from monai.data import MetaTensor

from monai_zsad.transforms import CalibratedCandidates, LesionCandidates


class Above:
    """The p-value of a peak is its distance from 1."""

    def check(self, run):
        raise AssertionError

    def candidate_p_values(self, peaks):
        return [1 - peak for peak in peaks]

    def volume_p_value(self, score):
        return 1 - score

    def threshold(self, alpha):
        return 1 - alpha

    def summary(self, alpha=None):
        return {"alpha": alpha}


def test_more_candidates_than_uint8_can_number():
    values = torch.zeros(1, 40, 40, 3)
    values[:, ::2, ::2, 1] = torch.linspace(0.5, 0.9, 400).reshape(20, 20)
    labels, candidates = LesionCandidates(threshold=0.4, min_volume_mm3=0)(MetaTensor(values, affine=torch.eye(4)))
    assert labels.dtype == torch.uint16
    assert len(candidates) == 400
    before = labels.numpy().copy()
    kept, p_values, left = CalibratedCandidates(Above(), alpha=0.3)(candidates, labels)
    assert isinstance(left, MetaTensor)
    assert left.dtype == torch.uint16
    assert [found.id for found in kept] == list(range(1, len(kept) + 1)) == sorted(set(left.numpy()[left.numpy() > 0]))
    assert max(p_values) <= 0.3 < 1 - candidates[len(kept)].peak_score
    assert (left.numpy() == before * (before <= len(kept))).all()
    assert (labels.numpy() == before).all()


def test_without_alpha_all_are_kept():
    labels, candidates = LesionCandidates(min_volume_mm3=0)(torch.ones(1, 2, 2, 2))
    kept, p_values, left = CalibratedCandidates(Above())(candidates, labels)
    assert kept == candidates
    assert p_values == [0.0]
    assert left is labels
    assert CalibratedCandidates(Above(), alpha=0.5)([], None) == ([], [], None)
