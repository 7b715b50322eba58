from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.errors import OutputError
from monai_zsad.writers import (
    SaveCased,
    SaveManifestd,
    atomic_path,
    clean_temporaries,
    content_hash,
    fingerprint,
    is_complete,
    verify_manifest,
)
from tests.conftest import ROOT
from tests.writers.interrupted import CASES

MODEL = {"method": "crane", "weights": {"clip": {"name": "openai", "sha256": "ab"}}}


def save_case(folder: Path, sources: str | None = None, **options: Any) -> dict[Any, Any]:
    """A case ``anna`` of one volume with its manifest."""
    last = SaveManifestd("pred", folder, **{"meta": MODEL, **options})
    meta = {} if sources is None else {"source_files": sources}
    data: dict[Any, Any] = {
        "case": "anna",
        "pred": MetaTensor(torch.ones(1, 2, 3, 4)),
        "image": MetaTensor(torch.ones(1, 2, 3, 4), meta=meta),
    }
    SaveCased("pred", folder)(data)
    assert last(data) == data
    return json.loads((folder / "anna" / "manifest.json").read_text())


@pytest.fixture
def scan(tmp_path: Path) -> str:
    """Two files of a scan, joined by a line break."""
    paths = [tmp_path / "Doe^Jane" / name for name in ("1", "2")]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_text(f"slice {path.name}")
    return "\n".join(map(str, paths))


def test_content(tmp_path, scan):
    out = tmp_path / "out"
    content = save_case(out, scan, settings={"plane": "axial"})
    volume = out / "anna" / "anomaly.nii.gz"
    sha256 = subprocess.run(["sha256sum", volume], capture_output=True, text=True, check=True).stdout.split()[0]
    assert content["files"] == {volume.name: {"bytes": volume.stat().st_size, "sha256": sha256}}
    assert (content["schema"], content["schema_version"]) == ("monai-zsad/manifest", 1)
    assert content["case"] == "anna"
    assert content["fingerprint"].keys() == {"model", "configuration", "input"}
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in content["fingerprint"].values())
    text = (out / "anna" / "manifest.json").read_text()
    assert "Doe" not in text
    assert str(tmp_path) not in text
    assert "axial" not in text
    assert verify_manifest(out, "anna") == []
    assert sorted(os.listdir(out / "anna")) == ["anomaly.nii.gz", "manifest.json"]


def test_two_runs_give_the_same_bytes(tmp_path, scan):
    for folder in ("a", "b"):
        save_case(tmp_path / folder, scan)
    first, second = ((tmp_path / folder / "anna" / "manifest.json").read_bytes() for folder in ("a", "b"))
    assert first == second


def test_files_of_earlier_runs_are_not_named(tmp_path):
    folder = tmp_path / "anna"
    (folder / "anna_dicom").mkdir(parents=True)
    for name in ("preview.png", ".zsad-0123abcd.preview.png", "anna_dicom/1.dcm"):
        (folder / name).write_text("x")
    hour_ago = time.time() - 3600
    os.utime(folder / "preview.png", (hour_ago, hour_ago))
    assert list(save_case(tmp_path)["files"]) == ["anna_dicom/1.dcm", "anomaly.nii.gz"]


def test_results_of_an_early_version_are_replaced(tmp_path):
    folder = tmp_path / "anna"
    folder.mkdir()
    old = ("anna_anomaly.nrrd", "anna_findings.json", "anna_manifest.json", "anna_seg.dcm")
    kept = ("anna_notes.txt", "ben_anomaly.nii.gz", "notes.txt")
    for name in (*old, *kept):
        (folder / name).write_text("x")
    save_case(tmp_path)
    assert sorted(os.listdir(folder)) == sorted(["anomaly.nii.gz", "manifest.json", *kept])


def test_a_case_without_files_is_not_complete(tmp_path):
    with pytest.raises(OutputError, match="this run has written no file of the case"):
        SaveManifestd("pred", tmp_path)({"case": "anna", "pred": torch.ones(1, 2, 2, 2)})
    assert os.listdir(tmp_path / "anna") == []
    with pytest.raises(OutputError, match="no 'case' in the data"):
        SaveManifestd("pred", tmp_path)({"pred": torch.ones(1, 2, 2, 2)})


def test_what_verification_finds(tmp_path):
    save_case(tmp_path)
    volume, manifest = tmp_path / "anna" / "anomaly.nii.gz", tmp_path / "anna" / "manifest.json"
    whole, text = volume.read_bytes(), manifest.read_text()

    def problems() -> str:
        return "; ".join(verify_manifest(tmp_path, "anna"))

    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    volume.write_bytes(flipped)
    assert problems().startswith("anomaly.nii.gz: has the SHA-256 ")
    volume.write_bytes(whole[:-1])
    assert problems() == f"anomaly.nii.gz: has {len(whole) - 1} bytes, not {len(whole)}"
    volume.unlink()
    assert problems() == "anomaly.nii.gz: is missing"
    volume.write_bytes(whole)
    assert problems() == ""
    content = json.loads(text)
    for changes, words in (
        ({"schema_version": 2}, "manifest.json: schema_version is 2, not 1"),
        ({"case": "otto"}, "manifest.json: case is 'otto', not 'anna'"),
        ({"files": {}}, "manifest.json: lists no files"),
        ({"files": {"../../etc/passwd": {}}}, "../../etc/passwd: lies outside the case's folder"),
        ({"files": {"/etc/passwd": {}}}, "/etc/passwd: lies outside the case's folder"),
        ({"files": {volume.name: 1}}, f"{volume.name}: has no size and hash in the manifest"),
    ):
        manifest.write_text(json.dumps({**content, **changes}))
        assert problems() == words
    manifest.write_text(text[:-9])
    assert "manifest.json: is not a JSON file" in problems()
    manifest.unlink()
    assert problems() == "manifest.json: cannot be read (No such file or directory)"
    with pytest.raises(OutputError, match="cannot name a folder"):
        verify_manifest(tmp_path, "../anna")


def test_complete_only_by_the_same_model_settings_and_input(tmp_path, scan):
    out, settings = tmp_path / "out", {"plane": "axial", "window": [40, 80]}
    save_case(out, scan, settings=settings)
    files = scan.splitlines()
    assert is_complete(out, "anna", fingerprint(MODEL, settings, scan))
    assert is_complete(out, "anna", fingerprint(lambda: MODEL, {"window": (40, 80), "plane": "axial"}, files[::-1]))
    assert not is_complete(out, "otto", fingerprint(MODEL, settings, scan))
    assert not is_complete(out, "anna", fingerprint({**MODEL, "method": "anoclip"}, settings, scan))
    assert not is_complete(out, "anna", fingerprint(MODEL, {**settings, "plane": "coronal"}, scan))
    assert not is_complete(out, "anna", fingerprint(MODEL, settings, files[:1]))
    assert not is_complete(out, "anna", fingerprint(MODEL, settings))
    Path(files[0]).write_text("slice 3")
    assert not is_complete(out, "anna", fingerprint(MODEL, settings, scan))
    Path(files[0]).write_text("slice 1")
    assert is_complete(out, "anna", fingerprint(MODEL, settings, scan))
    (out / "anna" / "anomaly.nii.gz").write_bytes(b"")
    assert not is_complete(out, "anna", fingerprint(MODEL, settings, scan))


def test_a_case_of_unknown_input_is_never_complete(tmp_path, scan, caplog):
    assert save_case(tmp_path / "a")["fingerprint"]["input"] is None
    assert not is_complete(tmp_path / "a", "anna", fingerprint(MODEL))
    gone = f"{scan}\n{tmp_path / 'gone'}"
    assert save_case(tmp_path / "b", gone)["fingerprint"]["input"] is None
    assert "cannot be read again" in caplog.text
    assert not is_complete(tmp_path / "b", "anna", fingerprint(MODEL, None, gone))


def test_names_of_scan_files_may_hold_anything_but_line_feeds(tmp_path):
    odd = tmp_path / "a\rb c"
    odd.write_text("x")
    assert fingerprint(None, None, str(odd)) == fingerprint(None, None, [odd])
    assert fingerprint(None, None, str(odd)).input is not None


def test_hash_of_settings():
    assert content_hash({"a": torch.tensor([1, 2]), "b": None}) == content_hash({"b": None, "a": [1, 2]})
    assert content_hash({"a": 1}) != content_hash({"a": 2})
    assert content_hash({"a": "1"}) != content_hash({"a": 1})
    with pytest.raises(OutputError, match=r"content\.a is nan"):
        content_hash({"a": float("nan")})


def test_only_temporaries_are_cleaned_up(tmp_path):
    (tmp_path / "anna" / "deep").mkdir(parents=True)
    kept = ["summary.json", ".hidden", ".0123abcd", ".0123ABCD.x", ".gitignore.x", "anna/anomaly.nii.gz"]
    kept += [".zsad-0123ABCD.x", "anna/.0123abcd.notes.txt", "anna/deep/.zsad-0123abcd.x", "anna/zsad-0123abcd.x"]
    gone = [".zsad-01234567.summary.json", "anna/.zsad-0123abcd.manifest.json"]
    for name in kept + gone:
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "anna" / "deep")
    # What atomic_path leaves when it is killed.
    with atomic_path(tmp_path / "anna" / "anomaly.nii.gz") as temporary:
        temporary.touch()
        shutil.copy(temporary, tmp_path / "copy")
        gone.append(temporary.relative_to(tmp_path).as_posix())
    (tmp_path / "copy").rename(temporary)
    removed = [path.relative_to(tmp_path).as_posix() for path in clean_temporaries(tmp_path)]
    assert sorted(removed) == sorted(gone)
    assert all((tmp_path / name).exists() for name in kept)
    assert not any((tmp_path / name).exists() for name in gone)
    assert clean_temporaries(tmp_path) == []
    assert clean_temporaries(tmp_path / "not made yet") == []


class Program:
    """``tests.writers.interrupted``, in a process of its own."""

    def __init__(self, scans: Path) -> None:
        for case in CASES:
            (scans / case).write_text(case)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "tests.writers.interrupted", str(scans)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def _ask(self, *command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def start(self, folder: Path, most_bytes: int | None = None) -> int:
        return self._ask("start", str(folder), most_bytes)

    def wait(self) -> tuple[int, str]:
        status, said = self._ask("wait")
        return os.waitstatus_to_exitcode(status), said

    def run(self, folder: Path, most_bytes: int | None = None) -> tuple[int, str]:
        self.start(folder, most_bytes)
        return self.wait()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    served = Program(tmp_path_factory.mktemp("scans"))
    yield served
    # Nothing is lost, and unloading torch takes its time.
    served.process.kill()
    served.process.communicate()


def files_of(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def whole(folder: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files_of(folder).items()}


@pytest.fixture(scope="module")
def expected(program, tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """What an undisturbed run writes, and how long it takes."""
    folder = tmp_path_factory.mktemp("whole")
    begin = time.perf_counter()
    assert program.run(folder) == (0, "")
    seconds = time.perf_counter() - begin
    written = whole(folder)
    assert len(written) == 36
    return written, seconds


def complete_cases(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the files of all cases whose manifest verifies."""
    cases = [entry.name for entry in folder.iterdir() if not verify_manifest(folder, entry.name)]
    paths = [path for case in cases for path in (folder / case).iterdir() if path.name[0] != "."]
    return {path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_any_moment(program, expected, tmp_path, kills):
    written, seconds = expected
    moments = random.Random(kills)
    killed = leftovers = folders = 0
    while killed < kills:
        folder = tmp_path / f"run{folders}"
        folder.mkdir()
        folders += 1
        complete: dict[str, tuple[int, int]] = {}
        running = True
        while running and killed < kills:
            pid = program.start(folder)
            time.sleep(moments.uniform(0, seconds / 3))
            os.kill(pid, signal.SIGKILL)
            code, said = program.wait()
            running = code == -signal.SIGKILL
            assert running or (code, said) == (0, "")
            killed += running
            found = files_of(folder)
            final = {name: path for name, path in found.items() if path.name[0] != "."}
            leftovers += len(found) - len(final)
            for name, path in final.items():
                assert path.read_bytes() == written[name], f"{name} is not whole"
            now = complete_cases(folder)
            # Written once and never again.
            assert complete.items() <= now.items()
            assert {name for name in final if name.endswith("/manifest.json")} <= now.keys()
            complete = now
        assert program.run(folder) == (0, "")
        assert whole(folder) == written
        assert complete.items() <= complete_cases(folder).items()
    assert leftovers, "no run was killed while it wrote: the test has tested nothing"


def test_file_that_cannot_grow(program, expected, tmp_path):
    code, said = program.run(tmp_path, 20_000)
    assert code == 1, said
    assert re.fullmatch(
        r".*case00.anomaly\.nii\.gz: cannot be written \(file too large\); free space or permission, .*", said
    )
    assert files_of(tmp_path) == {}
    assert program.run(tmp_path) == (0, "")
    assert whole(tmp_path) == expected[0]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 256 KB; mounting it takes an administrator on Linux."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(program, expected, small_disk):
    written = expected[0]
    code, said = program.run(small_disk)
    assert code == 1, said
    assert "cannot be written (no space left on device); free space or permission" in said
    found = whole(small_disk)
    assert found
    assert found.items() <= written.items()
    done = {name.split("/")[0] for name in found if name.endswith("/manifest.json")}
    assert done
    assert all(verify_manifest(small_disk, case) == [] for case in done)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    complete = complete_cases(small_disk)
    assert program.run(small_disk) == (0, "")
    assert whole(small_disk) == written
    assert complete.items() <= complete_cases(small_disk).items()
