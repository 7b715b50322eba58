from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.inferers import SliceInferer
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    Invertd,
    Lambdad,
    LoadImaged,
    Orientationd,
    ScaleIntensityd,
    SpatialPadd,
)

from monai_zsad.data import ScanReader, ScreeningDataset, find_scans
from monai_zsad.errors import InputError, OutputError
from monai_zsad.workflow.cases.redaction import conceal
from monai_zsad.workflow.screening import ScreeningSummary, check_output, finish, friendly_errors, isolate_failures
from monai_zsad.writers import SaveCased, SavePreviewd, SaveScoresd

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]])


class Brightness(torch.nn.Module):
    """Map = slice, score = its maximum."""

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return torch.cat([slices, slices.amax(dim=(1, 2, 3), keepdim=True).expand_as(slices)], dim=1)


@pytest.fixture(autouse=True)
def _nothing_concealed():
    """Private cases of an earlier run in this process keep tracebacks out of the log."""
    conceal([], [])


def test_a_private_case_is_named_once_in_its_line(caplog):
    conceal([{"case": "case-1f", "image": ["/pacs/DOE_J/1.dcm", "/pacs/DOE_J/2.dcm"]}], [True])
    engine = Engine(isolate_failures)
    engine.run([{"case": "case-1f", "error": "/pacs/DOE_J: slices are missing; export it again"}])
    assert engine.state.failures[0]["reason"] == "slices are missing; export it again"
    assert "case-1f failed: slices are missing" in caplog.text
    engine.run([{"case": "case-1f", "error": "/pacs/DOE_J/2.dcm: has no pixel data"}])
    assert engine.state.failures[0]["reason"] == "file 2 of 2: has no pixel data"


def add_scores(data):
    pred = data["pred"]
    slices = [float(score) for score in pred[1].amax(dim=(0, 1))]
    entries = [{"slice": i, "position_mm": [0, 0, 0], "score": s, "scored": True} for i, s in enumerate(slices)]
    return {**data, "slice_scores": entries, "volume_score": max(slices)}


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    for name, width in (("anna", 10), ("ben", 11), ("cleo", 12)):
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        values = np.zeros((width, 14, 6), dtype=np.int16)
        values[2:-2, 3:-3, 1:] = np.random.default_rng(width).integers(100, 900, (width - 4, 8, 5))
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
    damaged = folder / "ben.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    return folder


def make_evaluator(folder, output, workers=0, extra=(), network=None):
    load = Compose(
        [
            LoadImaged(keys="image", reader=ScanReader()),
            EnsureChannelFirstd(keys="image"),
            Orientationd(keys="image", axcodes="RPS", labels=None),
            ScaleIntensityd(keys="image"),
            CropForegroundd(keys="image", source_key="image"),
            SpatialPadd(keys="image", spatial_size=(16, 16, -1)),
        ]
    )
    finished = Compose(
        [
            add_scores,
            SavePreviewd(keys="pred", output_dir=output, slices=1, meta={"seeded": True}),
            Invertd(keys="pred", transform=load, orig_keys="image", nearest_interp=False),
            Lambdad(keys="pred", func=lambda pred: pred[:1]),
            *extra,
            SaveCased(keys="pred", output_dir=output),
            SaveScoresd(keys="pred", output_dir=output, meta={"seeded": True}),
        ]
    )
    loader = DataLoader(ScreeningDataset(find_scans(folder), load), batch_size=1, num_workers=workers)
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=network or Brightness(),
        inferer=SliceInferer(roi_size=(16, 16), spatial_dim=2),
        postprocessing=finished,
        iteration_update=isolate_failures,
        val_handlers=[ScreeningSummary(output)],
        decollate=True,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_two_results_and_one_failure(scans, tmp_path, capsys, caplog, workers):
    output = tmp_path / "out"
    evaluator = make_evaluator(scans, output, workers)
    with caplog.at_level(logging.INFO, logger="monai_zsad"):
        evaluator.run()

    for case in ("anna", "cleo"):
        assert sorted(file.name for file in (output / case).iterdir()) == [
            f"{case}_anomaly.nii.gz",
            f"{case}_preview.png",
            f"{case}_scores.json",
        ]
        source, result = (nibabel.load(p) for p in (scans / f"{case}.nii.gz", output / case / f"{case}_anomaly.nii.gz"))
        assert result.shape == source.shape
        np.testing.assert_allclose(result.affine, source.affine, atol=1e-5)
        expected = source.get_fdata() / source.get_fdata().max()
        np.testing.assert_allclose(result.get_fdata(), expected, atol=1e-5)
        content = json.loads((output / case / f"{case}_scores.json").read_text())
        assert content["volume_score"] == pytest.approx(1.0)
        assert len(content["slice_scores"]) == 5
        assert content["scan"]["orientation"] == "".join(nibabel.aff2axcodes(AFFINE))
        assert "mean nothing" in content["warnings"][0]
    assert not (output / "ben").exists()

    summary = json.loads((output / "summary.json").read_text())
    assert (summary["done"], summary["failed"]) == (2, 1)
    assert [(record["case"], record["status"]) for record in summary["cases"]] == [
        ("anna", "done"),
        ("ben", "failed"),
        ("cleo", "done"),
    ]
    assert summary["cases"][1]["reason"].startswith(f"{scans / 'ben.nii.gz'}: damaged")
    assert "2 done, 1 failed" in capsys.readouterr().out
    assert "[3/3] cleo: volume score 1.000" in caplog.text
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "ben failed: " in errors[0].getMessage()
    assert errors[0].exc_info is None
    with pytest.raises(SystemExit) as exit_code:
        finish(evaluator)
    assert exit_code.value.code == 1


def test_failure_of_network_and_of_a_writer(scans, tmp_path, caplog, monkeypatch):
    class FailsOnce(Brightness):
        calls = 0

        def forward(self, slices):
            self.calls += 1
            if self.calls == 1:
                raise ValueError("this network does not like\nthat slice")
            return super().forward(slices)

    output = tmp_path / "out"
    (scans / "ben.nii.gz").unlink()
    output.mkdir()
    (output / "cleo").write_text("a file where a folder should be")
    evaluator = make_evaluator(scans, output, network=FailsOnce())
    with caplog.at_level(logging.DEBUG, logger="monai_zsad"):
        evaluator.run()
    reasons = {record["case"]: record["reason"] for record in evaluator.state.failures}
    assert reasons["anna"] == "ValueError: this network does not like"
    assert reasons["cleo"].startswith(f"{output / 'cleo'}: cannot be written (file exists)")
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert {record.levelno for record in tracebacks} == {logging.DEBUG}
    monkeypatch.setenv("MONAI_ZSAD_TRACEBACK", "1")
    caplog.clear()
    evaluator.run()
    assert any(record.exc_info and record.levelno == logging.ERROR for record in caplog.records)
    assert [failure["case"] for failure in evaluator.state.failures] == ["cleo"]


def test_interrupt_and_exit_pass(scans, tmp_path):
    class Interrupted(torch.nn.Module):
        def forward(self, slices):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_evaluator(scans, tmp_path / "out", network=Interrupted()).run()


def test_all_well_ends_with_0(scans, tmp_path):
    (scans / "ben.nii.gz").unlink()
    evaluator = make_evaluator(scans, tmp_path / "out")
    evaluator.run()
    finish(evaluator)
    assert evaluator.state.failures == []


def test_summary_replaces_the_older_one(tmp_path, capsys):
    for score in (0.1, 0.9):
        engine = Engine(lambda engine, batch, score=score: [{"case": batch, "volume_score": score}])
        ScreeningSummary(tmp_path).attach(engine)
        engine.run(["a", "b"])
    content = json.loads((tmp_path / "summary.json").read_text())
    assert [record["volume_score"] for record in content["cases"]] == [0.9, 0.9]
    assert sorted(os.listdir(tmp_path)) == ["index.html", "summary.json"]
    assert "a     0.900" in capsys.readouterr().out


@pytest.fixture
def hook(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: seen.append(error))
    friendly_errors()
    friendly_errors()
    return seen


def wrapped(inner):
    try:
        raise RuntimeError("applying transform") from inner
    except RuntimeError as error:
        return error


def test_user_error_is_printed_as_written(hook, capsys):
    error = wrapped(InputError("a.nii: damaged;\n copy it again"))
    sys.excepthook(type(error), error, None)
    captured = capsys.readouterr()
    assert captured.err == "error: a.nii: damaged;\n copy it again\n"
    assert captured.out == ""
    assert hook == []


def test_other_errors_and_a_wish_for_the_traceback_keep_it(hook, capsys, monkeypatch):
    defect = wrapped(KeyError("x"))
    sys.excepthook(type(defect), defect, None)
    monkeypatch.setenv("MONAI_ZSAD_TRACEBACK", "1")
    error = wrapped(InputError("a.nii: damaged"))
    sys.excepthook(type(error), error, None)
    assert [seen[1] for seen in hook] == [defect, error]
    assert capsys.readouterr().err == ""


def test_check_output(tmp_path):
    folder = tmp_path / "new" / "out"
    cases = [{"case": f"case{i}"} for i in range(6)]
    check_output(folder, cases)
    assert folder.is_dir()
    assert not os.listdir(folder)
    for i in range(1, 6):
        (folder / f"case{i}").mkdir()
        (folder / f"case{i}" / f"case{i}_anomaly.nii.gz").touch()
    with pytest.raises(OutputError, match=r"results of case1, case2, case3 and 2 more: add --overwrite true"):
        check_output(folder, cases)
    with pytest.raises(OutputError):
        check_output(folder, cases, overwrite="false")
    check_output(folder, cases, overwrite=True)
    check_output(folder, cases, overwrite="true")
    check_output(folder, ["case0", "case"])


def test_output_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot be made"):
            check_output(path, [])


CONFIG = """
imports: ["$import torch", "$import monai_zsad.workflow.screening as screening", "$import monai_zsad.data as data"]
dataset_dir: none
output_dir: none
scans: "$data.find_scans(@dataset_dir)"
dataset:
  _target_: monai_zsad.data.ScreeningDataset
  data: "@scans"
  transform: {_target_: LoadImaged, keys: image, reader: "$data.ScanReader()", ensure_channel_first: true}
dataloader: {_target_: DataLoader, dataset: "@dataset", batch_size: 1}
evaluator:
  _target_: SupervisedEvaluator
  device: "$torch.device('cpu')"
  val_data_loader: "@dataloader"
  network: "$torch.nn.Identity()"
  iteration_update: "$screening.isolate_failures"
  postprocessing: {_target_: monai_zsad.writers.SaveCased, keys: pred, output_dir: "@output_dir"}
  val_handlers: [{_target_: monai_zsad.workflow.screening.ScreeningSummary, output_dir: "@output_dir"}]
initialize: ["$screening.friendly_errors()", "$screening.check_output(@output_dir, @scans)"]
run: ["$@evaluator.run()", "$screening.finish(@evaluator)"]
"""


def test_as_a_bundle(scans, tmp_path):
    """Through MONAI's own command line: exit code and what the user sees."""
    config = tmp_path / "inference.yaml"
    config.write_text(CONFIG)
    arguments = ["--config_file", str(config), "--output_dir", str(tmp_path / "out"), "--dataset_dir"]

    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "monai.bundle", "run", *arguments, str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    done = run(scans)
    assert done.returncode == 1
    assert "2 done, 1 failed" in done.stdout
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "cleo" / "cleo_anomaly.nii.gz").is_file()
    again = run(scans)
    assert again.returncode == 1
    assert "Traceback" not in again.stderr
    last = again.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {tmp_path / 'out'} already holds results of anna, cleo: add --overwrite true")


def test_a_finished_program_ends_without_a_search_for_cycles() -> None:
    program = (
        "import atexit, gc; from types import SimpleNamespace; from monai_zsad.workflow.screening import finish; "
        "before = gc.get_freeze_count(); atexit.register(lambda: print(gc.get_freeze_count() - before > 10_000)); "
        "[finish(SimpleNamespace(state=SimpleNamespace(failures=[]))) for _ in range(2)]; "
        "print(gc.get_freeze_count() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]
