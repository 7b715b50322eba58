"""The table of a run: formats agree, published values stand beside, missing cases are named."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.evaluation.predictions import RUN_FILE, RUN_SCHEMA, RUN_SCHEMA_VERSION, prediction_file, save_prediction
from monai_zsad.evaluation.protocols import known_protocols
from monai_zsad.evaluation.scoring import PAGE_FILE, TABLE_FILES, score_run
from monai_zsad.evaluation.tables import COLUMNS
from tests.evaluation.runs import random_predictions

MODEL = {
    "method": "Crane",
    "image_size": 518,
    "precision": "float32",
    "weights": {"clip": {"name": "ViT-L-14-336:openai", "seed": None}, "prompts": {"name": "crane:mvtec_epoch5"}},
}


def make_run(
    folder: Path, benchmark: str = "visa", classes: tuple[str, ...] = ("candle", "cashew"), **changes: Any
) -> Path:
    """A folder as an evaluation leaves it, of maps that no network made."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for number, name in enumerate(classes):
        for one in random_predictions(8, seed=number, class_name=name):
            object.__setattr__(one, "run", "r1")
            save_prediction(one, folder)
            cases.append({"case": one.case, "class_name": name, "label": one.label})
    content = {
        "schema": RUN_SCHEMA, "schema_version": RUN_SCHEMA_VERSION, "run": "r1", "benchmark": benchmark, "model": MODEL,
        "protocol": known_protocols()["crane"].as_dict(), "cases": cases,
        "settings": {"own": {"average": "probabilities", "sigma": 4}, "amp": False},
    }  # fmt: skip
    (folder / RUN_FILE).write_text(json.dumps(content | changes))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("run"))
    score_run(folder, bootstrap=10)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "figures.csv").read_text(encoding="utf-8"))))


def test_published_metrics_stand_beside_the_mean(run: Path) -> None:
    found = {row["figure"]: row for row in rows(run) if row["scope"] == "mean"}
    # Of the notes on VisA: Crane 85.3/87.9/82.6 and 95.1/87.5/30.9.
    published = {name: float(row["published"]) for name, row in found.items() if row["published"] != "nan"}
    assert published == {
        "image_auroc": 85.3, "image_average_precision": 87.9, "image_f1_max": 82.6,
        "pixel_auroc": 95.1, "pixel_aupro_released": 87.5, "pixel_f1_max": 30.9,
    }  # fmt: skip
    for name in published:
        difference = float(found[name]["percent"]) - published[name]
        assert float(found[name]["difference"]) == pytest.approx(difference, abs=1e-3)
    assert all(row["published"] == "nan" for row in rows(run) if row["scope"] != "mean")
    text = (run / "figures.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| image AUROC"))
    assert re.fullmatch(r"\| image AUROC \| [\d.]+ \| [\d.]+ to [\d.]+ \| 85.3 \| [-+][\d.]+ \|", line)
    assert "AdaCLIP" in text
    assert "not the whole set: 16 images, its publisher has 2162" in text
    assert "NOT A RESULT" not in text


def test_formats_agree(run: Path) -> None:
    content = json.loads((run / "figures.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    table = rows(run)
    assert len(table) == len(content["figures"]) == 3 * 10
    for row, other in zip(table, content["figures"], strict=True):
        assert tuple(row) == tuple(other) == COLUMNS
        for key in ("percent", "low", "difference"):
            if other[key] is None:
                assert math.isnan(float(row[key]))
            else:
                assert float(row[key]) == pytest.approx(other[key], rel=1e-4)
    assert (content["benchmark"], content["seeded"], content["missing_cases"]) == ("visa", False, 0)
    assert content["scoring"]["bootstrap"] == 10


def test_scoring_again_gives_the_same_files(run: Path) -> None:
    before = {name: (run / name).read_bytes() for name in (*TABLE_FILES, PAGE_FILE)}
    score_run(run, bootstrap=10)
    assert before == {name: (run / name).read_bytes() for name in before}


def test_page_needs_nothing_but_itself(run: Path) -> None:
    html = (run / PAGE_FILE).read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|iframe)[^>]+(src|href)=.(?!data:)", html)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'<img[^>]+src="([^"]+)', html))
    assert html.count("<img") == 5 + 3 * 4
    for words in (
        "image ROC",
        "pixel precision-recall",
        "scores of images",
        "Anomalous, worst",
        "Normal, highest scores",
        "85.3",
    ):
        assert words in html
    assert str(run) not in html


def test_departures_are_said(tmp_path: Path) -> None:
    changed = MODEL | {"image_size": 336, "weights": {"prompts": {"name": "own.pth", "seed": None}}}
    own = {"own": {"average": "logits", "sigma": 4}, "amp": False}
    text = score_run(make_run(tmp_path, model=changed, settings=own), bootstrap=0, page=False).markdown
    assert "not as the protocol: image_size is 336, not 518" in text
    assert "not as the protocol: average is logits, not probabilities" in text
    assert "not as the protocol: weights of prompts is own.pth, not crane:mvtec_epoch5" in text
    assert "sigma" not in text
    assert not (tmp_path / PAGE_FILE).exists()


def test_random_weights_are_no_result_and_compared_with_nothing(tmp_path: Path) -> None:
    seeded = MODEL | {"weights": {"clip": {"name": "seed:0", "seed": 0}}}
    table = score_run(make_run(tmp_path, model=seeded), bootstrap=0, page=False)
    assert table.seeded
    assert "**NOT A RESULT: made with seeded random weights" in table.markdown
    assert all(math.isnan(row["published"]) for row in table.rows())


def test_a_set_of_one_class_is_compared_by_that_class(tmp_path: Path) -> None:
    table = score_run(make_run(tmp_path, "headct", ("brain",)), bootstrap=0, page=False)
    assert table.main == "brain"
    assert {row["published"] for row in table.rows() if row["figure"] == "image_auroc"} == {95.3}
    assert {one.name.partition("_")[0] for one in table.findings.estimates} == {"image"}
    assert "## Classes" not in table.markdown


def test_missing_and_damaged_predictions(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    prediction_file(folder, "cashew/3.png").unlink()
    with pytest.raises(InputError, match=r"1 of 16 cases have no prediction of this run \(cashew/3.png\): give"):
        score_run(folder)
    text = score_run(folder, partial=True, bootstrap=0, page=False).markdown
    assert "**1 of 16 cases have no prediction and are left out.**" in text
    prediction_file(folder, "cashew/2.png").write_bytes(b"")
    with pytest.raises(InputError, match="damaged"):
        score_run(folder, partial=True)
    for index in range(16):
        prediction_file(folder, f"cashew/{index}.png").unlink(missing_ok=True)
        prediction_file(folder, f"candle/{index}.png").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"16 of 16 .*/0.png, .*/4.png and 11 more\): give"):
        score_run(folder)
    with pytest.raises(InputError, match="holds no prediction of its run"):
        score_run(folder, partial=True)
    with pytest.raises(InputError, match=r"evaluation.json: .* give the output folder"):
        score_run(tmp_path / "elsewhere")
    (folder / RUN_FILE).write_text("{}")
    with pytest.raises(InputError, match=r"evaluation.json: .* give the output folder"):
        score_run(folder)


def test_values_out_of_range(run: Path) -> None:
    for wrong in ({"bootstrap": -1}, {"min_overlap": 2.0}, {"limit": 0.0}, {"min_lesion": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            score_run(run, **wrong)
