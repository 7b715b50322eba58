"""Facts about the benchmark sets."""

from __future__ import annotations

import pytest

from monai_zsad.data.benchmarks import get_benchmark, known_benchmarks
from monai_zsad.data.benchmarks.layouts import KNOWN_LAYOUTS
from monai_zsad.errors import ConfigurationError
from tests.data.benchmarks.miniature import MAKERS

# fmt: off
ASKED = {
    "mvtec-ad", "visa", "mpdd", "btad", "ksdd", "dagm", "dtd-synthetic", "brainmri", "headct",
    "br35h", "isic", "tn3k", "cvc-colondb", "cvc-clinicdb", "kvasir", "bmad-brain",
    "bmad-liver", "bmad-resc", "bmad-oct17", "bmad-chest", "bmad-histopathology", "volumes",
}
# fmt: on


def test_the_sets_of_the_papers_are_known() -> None:
    assert known_benchmarks().keys() >= ASKED
    assert set(known_benchmarks()) == set(MAKERS), "every set needs a miniature in the tests"


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_facts_are_well_formed(name: str) -> None:
    entry = get_benchmark(name)
    assert entry.name == name
    assert entry.layouts
    assert all(layout in KNOWN_LAYOUTS for layout in entry.layouts)
    assert entry.domain in ("industrial", "medical")
    assert entry.prompt_names.keys() <= set(entry.classes)
    assert len(set(entry.classes)) == len(entry.classes)
    if entry.normal is not None and entry.abnormal is not None:
        assert entry.images == entry.normal + entry.abnormal
    if name != "volumes":
        assert entry.homepage is not None
        assert entry.homepage.startswith("http")
        assert entry.citation
        assert entry.classes
    assert all(source.startswith("https://") for source in entry.sources)


def test_numbers_of_the_published_logs() -> None:
    # AA-CLIP's released log states how many images it scored.
    stated = {"bmad-brain": 3715, "bmad-liver": 1493, "bmad-resc": 1805, "cvc-clinicdb": 612, "cvc-colondb": 380}
    stated |= {"kvasir": 1000, "cvc-300": 60}
    assert {name: get_benchmark(name).images for name in stated} == stated
    assert get_benchmark("mvtec-ad").images == 1725


def test_names_are_forgiving() -> None:
    assert get_benchmark("MVTec_AD") is get_benchmark("mvtec-ad") is get_benchmark("mvtec ad")
    with pytest.raises(ConfigurationError, match=r"did you mean visa\?") as caught:
        get_benchmark("vissa")
    assert "bmad-brain" in str(caught.value)


def test_facts_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        get_benchmark("visa").licence = "MIT"  # type: ignore[misc]  # that it is frozen is what is tested
