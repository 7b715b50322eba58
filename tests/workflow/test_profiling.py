from __future__ import annotations

import time
import weakref
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.inferers import SimpleInferer
from monai.transforms import Compose, Invertd, Lambdad, LoadImaged, Orientationd

from monai_zsad.data import ScanReader, ScreeningDataset, find_scans
from monai_zsad.workflow import ScreeningEvaluator
from monai_zsad.workflow.console.case_log import CaseLog
from monai_zsad.workflow.profiling import PARTS, StudyProfiler, part_table
from monai_zsad.writers import SaveCased
from tests.data.samples import write_nifti


def steps() -> Compose:
    return Compose(
        [
            LoadImaged(keys="image", reader=ScanReader(), ensure_channel_first=True),
            Orientationd(keys="image", axcodes="RPS", labels=None),
        ]
    )


class Slow(torch.nn.Module):
    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        time.sleep(0.2)
        return volumes


def run(folder: Path, active: bool) -> tuple[CaseLog, dict[str, bytes]]:
    load = steps()
    profiler, log = StudyProfiler(active), CaseLog(lambda row: None)
    output = folder / str(active)
    after = Compose(
        [
            Invertd(keys="pred", transform=load, orig_keys="image", nearest_interp=False),
            Lambdad(keys="pred", func=lambda pred: pred + 1),
            SaveCased(keys="pred", output_dir=output),
        ]
    )
    ScreeningEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(ScreeningDataset(find_scans(folder / "in"), profiler.loading(load)), batch_size=1),
        network=Slow(),
        postprocessing=profiler.timed(after),
        val_handlers=[profiler, log],
    ).run()
    return log, {str(file.relative_to(output)): file.read_bytes() for file in output.rglob("*.nii.gz")}


def test_parts_of_each_study(tmp_path: Path) -> None:
    for number, name in enumerate(("anna", "ben")):
        write_nifti(tmp_path / "in" / f"{name}.nii.gz", seed=number)
    (tmp_path / "in" / "cleo.nii.gz").write_bytes(b"")
    log, files = run(tmp_path, True)
    assert [row.case for row in log.rows] == ["anna", "ben", "cleo"]
    for row in log.rows[:2]:
        assert tuple(row.parts) == PARTS
        assert 0.2 <= row.parts["network"] < 2
        assert all(seconds >= 0 for seconds in row.parts.values())
        assert max(row.parts, key=lambda part: row.parts[part]) == "network"
    assert not log.rows[2].parts, "a failed study must not get the seconds of the study before"
    # The same results as without a profile.
    log, plain = run(tmp_path, False)
    assert plain == files
    assert len(files) == 2
    assert not any(row.parts for row in log.rows)


def test_what_is_not_active_is_not_there() -> None:
    profiler, load = StudyProfiler("false"), steps()
    assert profiler.loading(load) is load
    assert profiler.timed(load).transforms == load.transforms


def test_nobody_holds_the_result_that_a_step_has_replaced(tmp_path: Path) -> None:
    write_nifti(tmp_path / "anna.nii.gz", seed=0)
    load, profiler, alive = steps(), StudyProfiler(), []

    def look(data: dict[str, object]) -> dict[str, object]:
        alive.append([reference() is not None for reference in results])
        return data

    class Noted(SimpleInferer):
        def __call__(self, inputs: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
            pred = inputs * 2
            # The storage itself: decollation makes views of it.
            results.append(weakref.ref(pred.untyped_storage()))
            return pred

    results: list[weakref.ref] = []
    double = Compose([look, Lambdad(keys="pred", func=lambda pred: pred * 2), look])
    evaluator = ScreeningEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(ScreeningDataset(find_scans(tmp_path), load), batch_size=1),
        network=torch.nn.Identity(),
        inferer=Noted(),
        postprocessing=profiler.timed(double),
        val_handlers=[profiler],
    )
    evaluator.run()
    assert alive == [[True], [False]]
    (output,) = evaluator.state.output
    torch.testing.assert_close(output["pred"].as_tensor(), 4 * output["image"].as_tensor())
    # Without an engine nothing is taken from who calls.
    data = {"pred": torch.ones(1)}
    StudyProfiler().timed(Compose([Lambdad(keys="pred", func=torch.neg)]))(data)
    assert data["pred"] == 1


def test_a_step_that_fails_has_taken_its_time() -> None:
    profiler = StudyProfiler(True)

    def fail(data: object) -> object:
        time.sleep(0.01)
        raise ValueError("no")

    with pytest.raises(RuntimeError):
        profiler.timed(Compose([Lambdad(keys="pred", func=fail)]))({"pred": MetaTensor(torch.zeros(1))})
    assert profiler.seconds["findings"] >= 0.01


def test_table() -> None:
    assert part_table([("anna", {})]) == ""
    lines = part_table([("anna", {"network": 3.0, "read": 1.0}), ("ben", {}), ("cleo", {"network": 4.0})]).splitlines()
    assert lines[0].split() == ["seconds", "read", "network"]
    assert [line.split()[0] for line in lines[1:]] == ["anna", "cleo", "in", "share"]
    assert lines[-1].split() == ["share", "12%", "88%"]
