"""Wrong inputs of ``screen`` are reported before torch or MONAI is imported: the import itself would fail here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.samples import write_nifti

HEAVY = ("torch", "monai", "ignite", "highdicom", "itk", "open_clip", "matplotlib", "scipy")
BLOCKED = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ImportError(f"{{name}} is imported")
sys.meta_path.insert(0, Blocker())
from monai_zsad.cli.main import main
main()
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", BLOCKED, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    write_nifti(tmp_path / "anna.nii.gz")
    return tmp_path / "anna.nii.gz"


def test_the_check_can_fail(scan: Path, tmp_path: Path):
    done = run("screen", str(scan), "-o", str(tmp_path / "out"))
    assert done.returncode != 0
    assert "is imported" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bundle", "tiny_sceening"], "did you mean tiny_screening?"),
        (["--set", "windw=brain"], "did you mean window?"),
        (["--set", "threshold=0.4"], "give candidate_threshold, or --threshold of `screen`"),
        (["--weights", "clpi=seed:0"], "there is no part clpi; known are model"),
        (["--weights", "model=gone.pt"], "the weights file gone.pt does not exist"),
        (["--weights", "model=nothing"], "weights 'nothing' are unknown"),
        (["--plane", "sagital"], "plane='sagital' cannot be used"),
        (["--window", "brian"], "window='brian' is not a known CT window"),
        (["--window", "[40, -80]"], "window=[40, -80]"),
        (["--dicom", "seg,pdf"], "dicom=['seg', 'pdf'] cannot be used"),
        (["--repair", "missing-slice"], "did you mean missing-slices?"),
        (["--set", "accept=gap"], "accept='gap' cannot be used"),
        (["--set", "batch_size=0"], "batch_size=0 cannot be used"),
        (["--set", "precision=half"], "precision='half' cannot be used"),
        (["--device", "gpu"], "device='gpu' is not a device"),
        (["--device", "cuda:1"], "device='cuda:1' is not on this machine (CUDA_VISIBLE_DEVICES hides its GPUs)"),
        (["--runtime", "onnx", "--device", "cuda"], "runtime='onnx' computes on the CPU, but device is cuda"),
        (["--prompts", "medicl"], "the prompt set 'medicl' is unknown; did you mean medical"),
        (["--prompts", "gone.yaml"], "gone.yaml"),
        (["--anatomy", "brian"], "anatomy 'brian' is unknown; did you mean brain"),
        (["--anatomy", "FLAIR"], "anatomy 'FLAIR': this is a modality; give it as modality"),
        (["--modality", "Brain"], "modality 'Brain': this is an anatomy; give it as anatomy"),
        (["--state", "flair"], "state 'flair': this is a modality"),
        (["--bundle", "crane", "--anatomy", "brain"], "--anatomy: crane takes none, because its prompts are learned; "),
        (["--bundle", "crane", "--anatomy", "brain"], "bundles that take it: aaclip, anoclip, musc, tiny_screening"),
        (["--bundle", "aaclip", "--state", "edema"], "--state is not an option of aaclip; bundles that take it: musc"),
        (["--modality", "FLARE"], "modality 'FLARE' is unknown; did you mean flair"),
        (["--state", "hemorhage"], "state 'hemorhage' is unknown; did you mean hemorrhage"),
        (["--calibration", "gone.json"], "gone.json: cannot be read"),
    ],
)
def test_wrong_options(scan: Path, tmp_path: Path, options: list[str], message: str):
    done = run("screen", str(scan), "-o", str(tmp_path / "out"), *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_number_out_of_range_is_wrong_usage(scan: Path, tmp_path: Path):
    done = run("screen", str(scan), "-o", str(tmp_path / "out"), "--threshold", "1.5")
    assert done.returncode == 2
    assert "--threshold" in done.stderr


def missing(folder: Path) -> tuple[Path, Path, str]:
    return folder / "gone", folder / "out", "gone: does not exist; give a"


def results_of_the_case(folder: Path) -> tuple[Path, Path, str]:
    (folder / "out" / "anna").mkdir(parents=True)
    (folder / "out" / "anna" / "scores.json").touch()
    return folder / "anna.nii.gz", folder / "out", "already holds results of anna"


def file_for_a_folder(folder: Path) -> tuple[Path, Path, str]:
    (folder / "out").touch()
    return folder / "anna.nii.gz", folder / "out", "out: cannot be made"


def folder_of_texts(folder: Path) -> tuple[Path, Path, str]:
    (folder / "texts" / "more").mkdir(parents=True)
    (folder / "texts" / "more" / "notes.txt").write_text("nothing")
    (folder / "texts" / "old.tar").touch()
    return folder / "texts", folder / "out", "holds no scan"


def empty_folder(folder: Path) -> tuple[Path, Path, str]:
    (folder / "nothing").mkdir()
    return folder / "nothing", folder / "out", "is an empty folder"


@pytest.mark.parametrize("make", [missing, results_of_the_case, file_for_a_folder, folder_of_texts, empty_folder])
@pytest.mark.usefixtures("scan")
def test_wrong_paths(tmp_path: Path, make: Callable[[Path], tuple[Path, Path, str]]):
    scans, output, message = make(tmp_path)
    done = run("screen", str(scans), "-o", str(output))
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_results_of_other_cases_stay(scan: Path, tmp_path: Path):
    results_of_the_case(tmp_path)
    other = tmp_path / "ben.nii.gz"
    write_nifti(other)
    assert "is imported" in run("screen", str(other), "-o", str(tmp_path / "out")).stderr
    assert "is imported" in run("screen", str(scan), "-o", str(tmp_path / "out"), "--overwrite").stderr
