"""docs/troubleshooting.md: each mistake is made here by the real command, and prints the sentence that stands there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import torch

from monai_zsad.cli.main import app  # noqa: F401  - imported once, before the first command
from monai_zsad.data.failures import explain
from tests.data.samples import write_series
from tests.documented import ROOT
from tests.workshop import make_bundles, make_inputs, run

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SCREEN = "python -m monai_zsad screen"
# Sections of this page that print no message of ours.
WITHOUT_MESSAGE = {"`make demo` cannot make an environment", "No error, yet a poor result"}
MISTAKES = {
    "The weights are not on this machine": [f"{SCREEN} scan.nii.gz -o NEW --bundle released/crane"],
    "The path to a scan is wrong": [f"{SCREEN} scans/anna.nii -o NEW"],
    "The results are there already": [f"{SCREEN} scan.nii.gz -o RESULTS"],
    "Resumed with other settings": [f"{SCREEN} scan.nii.gz -o RESULTS --resume --threshold 0.3"],
    "Slices of a series are missing": [f"{SCREEN} SERIES -o NEW --no-progress"],
    "An option is misspelt": [
        "python -m monai.bundle run --config_file bundles/crane/configs/inference.yaml --bundle_root bundles/crane "
        "--dataset_dir scan.nii.gz --output_dir NEW --windw brain"
    ],
    "The bundle is not found": [
        f"{SCREEN} scan.nii.gz -o NEW --bundle crain",
        "python -m monai.bundle run --config_file bundles/crain/configs/inference.yaml --bundle_root bundles/crain "
        "--dataset_dir scan.nii.gz --output_dir NEW",
    ],
    "There is no such CUDA device": [f"{SCREEN} scan.nii.gz -o NEW --device cuda"],
    "A modality, an anatomy or a prompt set is unknown": [
        f"{SCREEN} scan.nii.gz -o NEW --modality FLARE",
        f"{SCREEN} scan.nii.gz -o NEW --anatomy brian",
        f"{SCREEN} scan.nii.gz -o NEW --prompts mine",
    ],
    "A file is not a weights file": [
        f"{SCREEN} scan.nii.gz -o NEW --bundle pointer/tiny_screening",
        f"{SCREEN} scan.nii.gz -o NEW --bundle bundles/crane --weights prompts=page.pth",
    ],
    "MONAI Label is not installed": ["python -m monai_zsad label-server --studies FOLDER"],
}
CASES = [(heading, number) for heading, commands in MISTAKES.items() for number in range(len(commands))]


def sections() -> dict[str, list[str]]:
    """The messages of each section, by its heading."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)[1:]
    blocks = (re.findall(r"^```text\n(.*?)^```", body, re.MULTILINE | re.DOTALL) for body in parts[1::2])
    return dict(zip(parts[::2], blocks, strict=True))


def pattern(message: str) -> str:
    """A documented message as a pattern: ``<...>`` is anything, and white space is white space."""
    pieces = re.split(r"<[^>]+>", " ".join(message.split()))
    return ".+?".join(map(re.escape, pieces))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A reader's folder: scans, results of a run, bundles, and what went wrong with some of them."""
    own = tmp_path_factory.mktemp("reader")
    make_bundles(own / "bundles")
    make_inputs(own, "scan.nii.gz FOLDER")
    shutil.copytree(own / "bundles" / "crane", own / "released" / "crane")
    config = own / "released" / "crane" / "configs" / "inference.yaml"
    named = config.read_text(encoding="utf-8").replace("clip: seed:0", "clip: ViT-L-14-336:openai")
    config.write_text(named, encoding="utf-8")
    shutil.copytree(own / "bundles" / "tiny_screening", own / "pointer" / "tiny_screening")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 22948\n"
    (own / "pointer" / "tiny_screening" / "models" / "model.pt").write_text(pointer, encoding="utf-8")
    (own / "page.pth").write_text("<!DOCTYPE html><html></html>", encoding="utf-8")
    for file in write_series(own / "SERIES", slices=8):
        if pydicom.dcmread(file).InstanceNumber == 4:
            file.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_ZSAD_OFFLINE", "1")
        patch.delenv("MONAI_ZSAD_TRACEBACK", raising=False)
        done = run(f"{SCREEN} scan.nii.gz -o RESULTS --no-progress", own)
        assert done.code == 0, done.output
        yield own


@pytest.mark.parametrize(("heading", "number"), CASES, ids=[f"{heading} {number}" for heading, number in CASES])
def test_the_mistake_prints_what_the_page_says(heading: str, number: int, folder: Path) -> None:
    if heading == "There is no such CUDA device" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    done = run(MISTAKES[heading][number], folder)
    printed = " ".join(done.output.split())
    assert done.code == 1
    assert re.search(pattern(sections()[heading][number]), printed), done.output
    if "error: " in sections()[heading][number]:
        assert "Traceback" not in printed


def test_out_of_memory_is_one_sentence() -> None:
    (message,) = sections()["Out of memory"]
    assert re.fullmatch(pattern(message), explain(MemoryError()))


def test_every_section_is_tested() -> None:
    found = sections()
    counts = {heading: len(messages) for heading, messages in found.items() if messages}
    assert counts == {heading: len(commands) for heading, commands in MISTAKES.items()} | {"Out of memory": 1}
    assert {heading for heading, messages in found.items() if not messages} == WITHOUT_MESSAGE
