"""A scan that is outside of what the model was trained on, from the network to all results."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pydicom
import pytest
import torch

from monai_zsad.integrations.app.jobs import Outcome
from monai_zsad.integrations.app.views import verdict
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.workflow import ScreenedCase
from monai_zsad.workflow.python.case import Origin
from monai_zsad.workflow.python.results import read_results
from monai_zsad.writers import SEEDED_WARNING, UNFAMILIAR_WARNING
from tests.bundles.runs import ROOT, run_small
from tests.data.samples import write_series

HEADING = f"{UNFAMILIAR_WARNING.capitalize()}."


class Telling(torch.nn.Module):
    """A network with a third channel: the same unfamiliarity for each slice."""

    def __init__(self, network: ZeroShotNetwork, told: float) -> None:
        super().__init__()
        self.network, self.told = network, told
        self.image_size, self.patch_size = network.image_size, network.patch_size

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        found = self.network(slices)
        return torch.cat([found, torch.full_like(found[:, :1], self.told)], dim=1)


def screened(source: Path, target: Path, told: float | None, **options: Any) -> ScreenedCase:
    """The bundle's own run, with a small network; ``told``: what it says of each slice."""
    if told is not None:
        options["network"] = {"_target_": f"{__name__}.Telling", "network": "@network_def", "told": told}
    run_small(ROOT / "crane", source, target, case_names="files", dicom=["seg", "sr", "sc"], report="light", **options)
    return next(iter(read_results(target, True, Origin(lambda: ((), dict))).cases.values()))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    write_series(folder / "chest")
    return folder


@pytest.fixture(scope="module")
def plain(source: Path, tmp_path_factory: pytest.TempPathFactory) -> ScreenedCase:
    """By a network with two channels."""
    return screened(source, tmp_path_factory.mktemp("plain"), None)


def record(case: ScreenedCase, kind: str) -> dict[str, Any]:
    return json.loads((case.files["findings"].parent / f"{kind}.json").read_text(encoding="utf-8"))


def without(content: Any, *names: str) -> Any:
    """The content without these fields and those that differ from run to run."""
    if isinstance(content, dict):
        return {key: without(value, *names) for key, value in content.items() if key not in names}
    return [without(value, *names) for value in content] if isinstance(content, list) else content


def comments(case: ScreenedCase) -> list[str]:
    report = pydicom.dcmread(case.files["dicom_report"])
    return [str(item.TextValue) for item in report.ContentSequence if "TextValue" in item]


def test_every_result_says_so(source, plain, tmp_path, capsys, caplog):
    with caplog.at_level(logging.WARNING, "monai_zsad"):
        case = screened(source, tmp_path, 2.5)
    assert (case.unfamiliar, case.status, case.codes) == (True, "done", ("unfamiliar",))
    assert case.warnings == [SEEDED_WARNING, UNFAMILIAR_WARNING]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[1/1]")]
    assert UNFAMILIAR_WARNING in line
    assert "repaired" not in line
    assert f"{case.case}: {UNFAMILIAR_WARNING}" in caplog.messages
    for kind in ("findings", "scores"):
        content, other = record(case, kind), record(plain, kind)
        assert (content["unfamiliar"], content["unfamiliarity"], content["warnings"]) == (True, 2.5, case.warnings)
        new = ("unfamiliar", "unfamiliarity", "warnings", "model")
        assert without(content, *new) == without(other, *new), "scores and candidates are the same"
    assert {entry["unfamiliarity"] for entry in record(case, "scores")["slice_scores"] if entry["scored"]} == {2.5}
    same = ("anomaly_map", "candidates")
    assert all(case.files[kind].read_bytes() == plain.files[kind].read_bytes() for kind in same)
    page = case.files["report"].read_text(encoding="utf-8")
    assert page.index(HEADING) < page.index("volume score")
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "1</b><span>outside of the training data" in index
    (entry,) = json.loads((tmp_path / "summary.json").read_text())["cases"]
    assert entry["unfamiliar"] is True
    assert f"{case.case},done,unfamiliar," in (tmp_path / "status.csv").read_text()
    assert UNFAMILIAR_WARNING in comments(case)
    assert UNFAMILIAR_WARNING in repr(case)
    assert case._repr_html_().index(HEADING) < case._repr_html_().index("volume score")
    assert verdict(Outcome((case,)), case).index(HEADING) < verdict(Outcome((case,)), case).index("volume score")


def test_familiar_scans_are_as_from_a_network_that_cannot_tell(source, plain, tmp_path):
    case = screened(source, tmp_path, 0.8)
    assert (case.unfamiliar, case.codes, plain.unfamiliar, plain.codes) == (False, (), None, ())
    assert case.warnings == plain.warnings
    assert {"unfamiliar", "unfamiliarity"}.isdisjoint(record(plain, "findings"))
    assert "unfamiliarity" not in str(record(plain, "scores"))
    assert HEADING not in case.files["report"].read_text(encoding="utf-8")
    assert UNFAMILIAR_WARNING not in comments(case)
