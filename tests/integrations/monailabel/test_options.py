"""What a client may choose, and what must not get through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_zsad.errors import ConfigurationError
from monai_zsad.integrations.monailabel.levels import LEVELS, level_labels, level_of
from monai_zsad.integrations.monailabel.options import RequestOptions, panel, read_options
from monai_zsad.transforms.lesion_candidate import LesionCandidate
from tests.bundles.runs import BUNDLES, parser_of

CONFIG = {
    "prompt_set": "medical",
    "anatomy": None,
    "states": None,
    "plane": "axial",
    "window": "auto",
    "candidate_threshold": 0.5,
    "min_volume_mm3": 10,
    "max_candidates": 50,
}
SHOWN = panel(CONFIG)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda folder: folder.name)
def test_every_option_of_a_bundle_is_one_of_its_values_and_has_its_default(bundle: Any) -> None:
    config = parser_of(bundle).get()
    overrides = read_options({}, panel(config)).overrides
    assert {"plane", "window", "candidate_threshold", "min_volume_mm3"} <= overrides.keys()
    for key, value in overrides.items():
        assert config[key] == value, key


def test_a_panel_s_own_values_may_come_back() -> None:
    assert read_options(SHOWN, SHOWN) == read_options({}, SHOWN)


def test_texts_become_values() -> None:
    options = read_options(
        {
            "candidate_threshold": "0.6",
            "max_candidates": "None",
            "states": "hemorrhage, organ",
            "window": "[40, 80]",
            "anatomy": "brain",
            "level_high": "0.9",
            "client_id": "$anything",
        },
        SHOWN,
    )
    assert options.overrides == {
        **CONFIG,
        "candidate_threshold": 0.6,
        "max_candidates": None,
        "states": ["hemorrhage", "organ"],
        "window": [40, 80],
        "anatomy": "brain",
    }
    assert options.level_high == 0.9


@pytest.mark.parametrize(("given_", "key"), [("FLAIR", "flair"), ("X-ray", "xray"), ("MR", "mri"), ("any", None)])
def test_words_may_be_written_as_elsewhere(given_: str, key: str | None) -> None:
    shown = panel({**CONFIG, "modality": None})
    overrides = read_options({"modality": given_, "anatomy": "Brain"}, shown).overrides
    assert (overrides["modality"], overrides["anatomy"]) == (key, "brain")


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"plane": "oblique"}, "plane='oblique'.*axial, coronal"),
        ({"prompt_set": "any"}, "prompt_set='any'.*screening"),
        ({"candidate_threshold": "high"}, "candidate_threshold='high'"),
        ({"candidate_threshold": True}, "candidate_threshold=True"),
        ({"min_volume_mm3": float("nan")}, "min_volume_mm3=nan"),
        ({"level_moderate": 0.9, "level_high": 0.8}, "level_moderate=0.9, level_high=0.8"),
        ({"level_high": ""}, "level_high=None"),
        ({"window": "[40"}, "window='\\[40'"),
    ],
)
def test_wrong_values_are_named(request_: dict, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        read_options(request_, SHOWN)


@given(
    key=st.sampled_from(["window", "states", "plane", "prompt_set", "anatomy", "candidate_threshold"]), tail=st.text()
)
@pytest.mark.parametrize("mark", ["$", "@", "%", "$import os", "x\n$"])
def test_nothing_that_monai_would_run_gets_through(mark: str, key: str, tail: str) -> None:
    with pytest.raises(ConfigurationError):
        read_options({key: f"{mark}{tail}{mark}"}, SHOWN)


def candidate(number: int, peak: float) -> LesionCandidate:
    zero = (0.0, 0.0, 0.0)
    box = ((0, 1), (0, 1), (0, 1))
    return LesionCandidate(
        number, 1, 1.0, peak, peak, zero, zero, zero, zero, zero, (0, 0, 0), box, (0, 0), 1.0, 1.0, 1.0
    )


@given(peaks=st.lists(st.floats(0.5, 1.0, width=32), max_size=12), seed=st.integers(0, 99))
def test_levels_of_voxels_are_those_of_their_candidates(peaks: list[float], seed: int) -> None:
    options = RequestOptions({}, 0.65, 0.8, "auto")
    found = [candidate(number, peak) for number, peak in enumerate(peaks, start=1)]
    labels = np.random.default_rng(seed).integers(0, len(peaks) + 1, (3, 4, 5)).astype(np.uint16)
    fixed, names = level_labels(labels, found, options)
    assert names == LEVELS
    assert fixed.dtype == np.uint8
    for value, level in zip(labels.ravel(), fixed.ravel(), strict=True):
        assert level == (0 if value == 0 else level_of(peaks[value - 1], options))
    compact, names = level_labels(labels, found, options, compact=True)
    assert sorted(names.values()) == list(range(1, len(names) + 1))
    back = {value: LEVELS[name] for name, value in names.items()} | {0: 0}
    np.testing.assert_array_equal(np.vectorize(back.get, otypes=[int])(compact), fixed)
