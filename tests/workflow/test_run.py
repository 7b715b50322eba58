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
from monai_zsad.workflow import ScreeningEvaluator, ScreeningRun, Settings, friendly_errors
from monai_zsad.workflow.cases.output_folder import check_output
from monai_zsad.workflow.cases.redaction import redact_cases
from monai_zsad.workflow.evaluator import guarded
from monai_zsad.writers import SaveCased, SavePreviewd, SaveScoresd

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]])


class Brightness(torch.nn.Module):
    """Map = slice, score = its maximum."""

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return torch.cat([slices, slices.amax(dim=(1, 2, 3), keepdim=True).expand_as(slices)], dim=1)


@pytest.fixture(autouse=True)
def _nothing_redacted():
    """Private cases of an earlier run in this process keep tracebacks out of the log."""
    redact_cases([], [])


def test_a_private_case_is_named_once_in_its_line(caplog):
    redact_cases([{"case": "case-1f", "image": ["/pacs/DOE_J/1.dcm", "/pacs/DOE_J/2.dcm"]}], [True])
    engine = Engine(lambda engine, batch: guarded(engine, batch, lambda *_: []))
    engine.run([{"case": "case-1f", "error": "/pacs/DOE_J: slices are missing; export it again"}])
    assert engine.state.output[0]["reason"] == "slices are missing; export it again"
    assert "case-1f failed: slices are missing" in caplog.text
    engine.run([{"case": "case-1f", "error": "/pacs/DOE_J/2.dcm: has no pixel data"}])
    assert engine.state.output[0]["reason"] == "file 2 of 2: has no pixel data"


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


class Run:
    """A run and its evaluator."""

    def __init__(self, folder, output, workers=0, network=None, **settings):
        options = {"overwrite": False, "resume": False, "retry_failed": False, "limit": None, "progress": False}
        cases = find_scans(folder)
        self.run = ScreeningRun(output, cases, Settings(**options | settings), lambda modality: {"seeded": True})
        self.evaluator = make_evaluator(cases, output, self.run, workers, network)

    def __call__(self):
        self.run.check_output()
        self.run.skip_complete()
        self.run.evaluate(self.evaluator)
        return self.run


def make_evaluator(cases, output, run, workers=0, network=None):
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
            SaveCased(keys="pred", output_dir=output),
            SaveScoresd(keys="pred", output_dir=output, meta={"seeded": True}),
        ]
    )
    loader = DataLoader(ScreeningDataset(cases, load), batch_size=1, num_workers=workers)
    return ScreeningEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=network or Brightness(),
        inferer=SliceInferer(roi_size=(16, 16), spatial_dim=2),
        postprocessing=finished,
        val_handlers=[run],
        decollate=True,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_two_results_and_one_failure(scans, tmp_path, capsys, caplog, workers):
    output = tmp_path / "out"
    with caplog.at_level(logging.INFO, logger="monai_zsad"):
        run = Run(scans, output, workers)()

    for case in ("anna", "cleo"):
        assert sorted(file.name for file in (output / case).iterdir()) == [
            "anomaly.nii.gz",
            "preview.png",
            "scores.json",
        ]
        source, result = (nibabel.load(p) for p in (scans / f"{case}.nii.gz", output / case / "anomaly.nii.gz"))
        assert result.shape == source.shape
        np.testing.assert_allclose(result.affine, source.affine, atol=1e-5)
        expected = source.get_fdata() / source.get_fdata().max()
        np.testing.assert_allclose(result.get_fdata(), expected, atol=1e-5)
        content = json.loads((output / case / "scores.json").read_text())
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
    assert summary["cases"][1]["reason"].startswith(f"{scans / 'ben.nii.gz'}: is damaged")
    assert "2 done, 1 refused in " in capsys.readouterr().out
    assert "[3/3] cleo: volume score 1.000" in caplog.text
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "ben failed: " in errors[0].getMessage()
    assert errors[0].exc_info is None
    with pytest.raises(SystemExit) as exit_code:
        run.finish()
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
    run = Run(scans, output, network=FailsOnce())
    with caplog.at_level(logging.DEBUG, logger="monai_zsad"):
        reasons = {record["case"]: record["reason"] for record in run().failures}
    assert reasons["anna"] == "ValueError: this network does not like"
    assert reasons["cleo"].startswith(f"{output / 'cleo'}: cannot be written (file exists)")
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert {record.levelno for record in tracebacks} == {logging.DEBUG}
    monkeypatch.setenv("MONAI_ZSAD_TRACEBACK", "1")
    caplog.clear()
    run.run.evaluate(run.evaluator)
    assert any(record.exc_info and record.levelno == logging.ERROR for record in caplog.records)
    assert [failure["case"] for failure in run.run.failures] == ["cleo"]


def test_interrupt_and_exit_pass(scans, tmp_path):
    class Interrupted(torch.nn.Module):
        def forward(self, slices):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(scans, tmp_path / "out", network=Interrupted())()


def test_without_failures_the_program_goes_on(scans, tmp_path):
    (scans / "ben.nii.gz").unlink()
    run = Run(scans, tmp_path / "out")()
    run.finish()
    assert run.failures == []


def test_overwrite_replaces_the_summary(scans, tmp_path, capsys):
    for _ in range(2):
        Run(scans, tmp_path / "out", overwrite=True)()
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [record["case"] for record in content["cases"]] == ["anna", "ben", "cleo"]
    assert capsys.readouterr().out.count("anna  score 1.000") == 2


def test_one_folder_holds_results_of_one_choice_of_settings(scans, tmp_path):
    """Scores that were made otherwise cannot be compared with them."""
    output = tmp_path / "out"
    Run(scans / "anna.nii.gz", output, volume_score="max")()
    for settings in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(OutputError, match=r"results of anna .*other settings"):
            Run(scans / "cleo.nii.gz", output, volume_score="mean", **settings)()
    Run(scans / "cleo.nii.gz", output, volume_score="max")()
    Run(scans, output, volume_score="mean", overwrite=True)()
    assert sorted(path.name for path in output.iterdir() if path.is_dir() and path.name[0] != ".") == ["anna", "cleo"]


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
        (folder / f"case{i}" / ("anomaly.nii.gz" if i < 5 else "case5_anomaly.nii.gz")).touch()
    with pytest.raises(OutputError, match=r"results of case1, case2, case3 and 2 more: add --overwrite true"):
        check_output(folder, cases)
    check_output(folder, cases, overwrite=True)
    check_output(folder, cases[:5], resume=True)
    with pytest.raises(OutputError, match=r"of case5 .*case5_anomaly\.nii\.gz.* cannot be resumed: add --overwrite"):
        check_output(folder, cases, resume=True)
    check_output(folder, ["case0", "case"])


def test_output_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot be made"):
            check_output(path, [])


CONFIG = """
imports: ["$import torch", "$import monai_zsad"]
dataset_dir: none
output_dir: none
overwrite: false
datalist: "$monai_zsad.data.find_scans(@dataset_dir)"
settings: {_target_: monai_zsad.workflow.Settings, overwrite: "@overwrite", resume: false, retry_failed: false,
  limit: null, progress: false}
screening: {_target_: monai_zsad.workflow.ScreeningRun, output_dir: "@output_dir", cases: "@datalist",
  settings: "@settings", describe: "$lambda modality: {}"}
dataset:
  _target_: monai_zsad.data.ScreeningDataset
  data: "@datalist"
  transform: {_target_: LoadImaged, keys: image, reader: "$monai_zsad.data.ScanReader()", ensure_channel_first: true}
dataloader: {_target_: DataLoader, dataset: "@dataset", batch_size: 1}
evaluator:
  _target_: monai_zsad.workflow.ScreeningEvaluator
  device: "$torch.device('cpu')"
  val_data_loader: "@dataloader"
  network: "$torch.nn.Identity()"
  postprocessing: {_target_: monai_zsad.writers.SaveCased, keys: pred, output_dir: "@output_dir"}
  val_handlers: ["@screening"]
initialize: ["$@settings.check()", "$@screening.check_output()", "$@screening.skip_complete()"]
run: ["$@screening.evaluate(@evaluator)", "$@screening.finish()"]
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
    assert "2 done, 1 refused in " in done.stdout
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "cleo" / "anomaly.nii.gz").is_file()
    again = run(scans)
    assert again.returncode == 1
    assert "Traceback" not in again.stderr
    last = again.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {tmp_path / 'out'} already holds results of anna, cleo: add --overwrite true")


def test_a_finished_program_ends_without_a_search_for_cycles() -> None:
    program = (
        "import atexit, gc; from monai_zsad.workflow.run import end_quickly; "
        "before = gc.get_freeze_count(); atexit.register(lambda: print(gc.get_freeze_count() - before > 10_000)); "
        "[end_quickly() for _ in range(2)]; "
        "print(gc.get_freeze_count() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]
