"""Published figures against the notes that they were taken from, number by number."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from monai_zsad.data.benchmarks import get_benchmark
from monai_zsad.evaluation.published import published_metrics, published_title

IMAGE = ("image_auroc", "image_average_precision", "image_f1_max")
PIXEL = ("pixel_auroc", "pixel_aupro", "pixel_f1_max")
COLUMNS = ("winclip", "anoclip", "anomalyclip", "adaclip", "crane", "crane_plus")
SETS = {"DTD": "dtd-synthetic", "ClinicDB": "cvc-clinicdb", "ColonDB": "cvc-colondb", "BMAD Retina RESC": "bmad-resc"}
CELL = re.compile(r"\d+\.\d+(?:/\d+\.\d+)*")


def set_of(words: str) -> str:
    words = re.sub(r" \(.*", "", words).strip()
    return SETS.get(words, "") or get_benchmark(words).name


def figures(benchmark: str, method: str) -> dict[str, float]:
    return {one.metric: one.percent for one in published_metrics(benchmark, method) if one.source}


def assert_cell(benchmark: str, method: str, names: tuple[str, ...], cell: str) -> None:
    found = figures(benchmark, method)
    for name, text in zip(names, cell.split("/"), strict=True):
        assert found[name] == float(text), (benchmark, method, name)


@pytest.fixture(scope="module")
def spec(shared: Path) -> str:
    file = shared / "spec" / "published.md"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    return file.read_text(encoding="utf-8")


def rows_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and CELL.search(line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_of_cranes_paper(spec: str) -> None:
    rows = rows_of(spec.partition("## AA-CLIP")[0])
    assert len(rows) == 11
    for name, *cells in rows:
        words, _, level = name.rpartition(" ")
        for method, cell in zip(COLUMNS, cells, strict=True):
            assert_cell(set_of(words), method, IMAGE if level == "image" else PIXEL, cell)


def test_sentence_of_cranes_paper(spec: str) -> None:
    sentence = " ".join(spec.partition("Other industrial sets, Crane | Crane+:")[2].partition("Protocol:")[0].split())
    for part in sentence.rstrip(". ").split(";"):
        name = CELL.split(part)[0].replace("image", "").strip()
        cells = CELL.findall(part)
        assert len(cells) == 4
        for method, image, pixel in zip(("crane", "crane_plus"), cells[:2], cells[2:], strict=True):
            assert_cell(set_of(name), method, IMAGE, image)
            assert_cell(set_of(name), method, PIXEL, pixel)


def test_log_of_aaclip(spec: str) -> None:
    rows = rows_of(spec.partition("## AA-CLIP")[2].partition("## Newer")[0])
    assert len(rows) == 10
    for name, pixel, image in rows:
        benchmark = set_of(name)
        both = [float(text) for text in re.findall(r"\d+\.\d+", f"{pixel} {image}")]
        names = ("pixel_auroc", "pixel_average_precision", "image_auroc", "image_average_precision")[: len(both)]
        assert figures(benchmark, "aaclip") == dict(zip(names, both, strict=True))


def test_every_number_and_no_other(spec: str) -> None:
    text = re.sub(r"arXiv \d+\.\d+", "", spec)
    stated = Counter(float(number) for number in re.findall(r"\d+\.\d+", text))
    kept = Counter(one.percent for one in published_metrics())
    assert kept == stated


def test_newer_methods_by_name() -> None:
    assert figures("tn3k", "anomalyvfm") == {"pixel_auroc": 88.1, "pixel_aupro": 80.1, "pixel_f1_max": 53.6}
    assert figures("cvc-clinicdb", "af_clip") == {"pixel_auroc": 87.1, "pixel_aupro": 70.0}
    assert figures("headct", "moeclip") == {"image_auroc": 96.6}
    assert figures("brainmri", "visualad") == {"image_auroc": 96.7}
    assert figures("br35h", "af_clip") == {"image_auroc": 96.7}


def test_sets_methods_and_figures_are_known() -> None:
    seen = set()
    for one in published_metrics():
        assert get_benchmark(one.benchmark).name == one.benchmark
        assert published_title(one.method) != one.method
        assert one.source
        assert 0 < one.percent < 100
        key = (one.benchmark, one.method, one.metric, one.source)
        assert key not in seen
        seen.add(key)
    assert published_metrics("brainmri", "aaclip") == []
