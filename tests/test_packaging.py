"""The distributions: contents of wheel and sdist, and the package installed from its wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import monai_zsad
from monai_zsad import __version__, bundles
from tests.conftest import ROOT
from tests.data.samples import write_nifti

MODEL = "monai_zsad/bundles/tiny_screening/models/model.pt"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
# Files that lie in the tree of a developer and must not be distributed.
JUNK = (
    "bundles/crane/models/model.pt",
    "bundles/crane/eval/anna/scores.json",
    "bundles/tiny_screening/trained/model.pt",
    "monai_zsad/prompts/__pycache__/library.cpython-310.pyc",
    "tests/__pycache__/parity.cpython-310.pyc",
    "dist/old.whl",
    "scans/patient.nii.gz",
    "demo_output/scan/sample_flair.nii.gz",
)


def run(*words: str | Path, cwd: Path, **more: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=environment | more, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(tree: Path, target: str, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=tree)
    (file,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return file


def contents(wheel: Path) -> dict[str, int]:
    """Checksums by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"monai_zsad-{__version__}"


def test_wheel_holds_bundles_and_data(wheel: Path):
    names = contents(wheel).keys()
    for bundle in bundles.names():
        for file in ("LICENSE", "configs/inference.yaml", "configs/metadata.json", "configs/logging.conf"):
            assert f"monai_zsad/bundles/{bundle}/{file}" in names
        for file in ("docs/README.md", "docs/data_license.txt"):
            assert f"monai_zsad/bundles/{bundle}/{file}" in names
    assert {MODEL, MODEL.replace(".pt", ".json"), "monai_zsad/py.typed"} <= names
    kinds = (".py", ".yaml", ".json", ".txt", ".typed")
    package = [path for path in Path(monai_zsad.__file__).parent.rglob("*") if path.suffix in kinds]
    assert {path.relative_to(ROOT).as_posix() for path in package} <= names
    assert sum(name.startswith("monai_zsad/prompts/data/sets/") for name in names) >= 5


def test_wheel_holds_nothing_else(wheel: Path):
    names = contents(wheel).keys()
    information = f"monai_zsad-{__version__}.dist-info/"
    assert {name.split("/")[0] + "/" for name in names} == {"monai_zsad/", information}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]
    assert [name for name in names if name.endswith((".pt", ".pth", ".onnx", ".nii.gz"))] == [MODEL]
    assert 10e6 < wheel.stat().st_size < 15e6
    with zipfile.ZipFile(wheel) as archive:
        facts = archive.read(information + "METADATA").decode()
        assert "monai-zsad = monai_zsad.cli.main:main" in archive.read(information + "entry_points.txt").decode()
    assert "License-Expression: Apache-2.0" in facts
    assert "Requires-Python: >=3.10" in facts


def test_wheel_of_the_sdist_is_that_of_the_tree(wheel: Path, unpacked: Path, tmp_path: Path):
    for name in ("tests/test_packaging.py", "notebooks/01_quick_start.py", "Makefile", "CHANGELOG.md", ".ci/run"):
        assert (unpacked / name).is_file()
    for name in ("Dockerfile", ".dockerignore", "CITATION.cff", "mkdocs.yml", ".github/workflows/test.yml"):
        assert (unpacked / name).is_file()
    assert not [path for path in unpacked.rglob("*") if path.name == "__pycache__"]
    tree = tmp_path / "tree"
    shutil.copytree(unpacked, tree)
    for name in JUNK:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"junk")
    assert contents(build(tree, "wheel", tmp_path / "again")) == contents(wheel)
    with tarfile.open(build(tree, "sdist", tmp_path / "again")) as archive:
        again = {name.split("/", 1)[1] for name in archive.getnames()}
    assert again == {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}


def interpreter(version: str, patch: pytest.MonkeyPatch) -> str:
    """An interpreter of a version; the test skips where there is none."""
    found = shutil.which(f"python{version}")
    # pyenv's launcher fails without the version.
    patch.setenv("PYENV_VERSION", version)
    if found is None or subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no python{version}")
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_other_interpreters_compile_and_find_bundles(
    wheel: Path, tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
):
    program = interpreter(version, monkeypatch)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    # Code that the oldest and the newest version compile, those in between compile as well.
    if version in (VERSIONS[0], VERSIONS[-1]):
        run(program, "-m", "compileall", "-q", "monai_zsad", cwd=tmp_path)
    # This module needs no dependency.
    code = "import sys; sys.path[:0] = ['.']; import monai_zsad.bundles as b; print(b.path('crane'))"
    found = run(program, "-I", "-c", code, cwd=tmp_path).strip()
    assert Path(found).resolve() == (tmp_path / "monai_zsad" / "bundles" / "crane").resolve()


@pytest.fixture(scope="module")
def installed(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment with the wheel of the sdist, and with the dependencies of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip: list[str] = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build_options: list[str | Path] = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", folder]
    run(*pip, "wheel", *build_options, unpacked, cwd=folder)
    (file,) = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    scripts, packages = environment_paths(folder / "venv")
    python = scripts / Path(sys.executable).name
    run(*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", file, cwd=folder)
    # Python searches a folder of a .pth file but reads no .pth file in it, so the editable install is not found.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def environment_paths(venv: Path) -> tuple[Path, Path]:
    paths = sysconfig.get_paths(vars={"base": str(venv), "platbase": str(venv)})
    return Path(paths["scripts"]), Path(paths["purelib"])


def zsad(python: Path, *words: str | Path, cwd: Path) -> str:
    return run(python, "-m", "monai_zsad", *words, cwd=cwd, OMP_NUM_THREADS="1")


@pytest.mark.slow
def test_installed_package_lies_in_its_environment(installed: Path, tmp_path: Path):
    own = installed.parents[1].resolve()
    code = "import monai_zsad, monai_zsad.bundles as b; print(monai_zsad.__file__); print(b.path('crane'))"
    for line in run(installed, "-c", code, cwd=tmp_path).splitlines():
        assert Path(line).is_relative_to(own), line
    assert zsad(installed, "--version", cwd=tmp_path).split() == ["monai-zsad", __version__]
    command = installed.with_name("monai-zsad")
    assert run(command, "bundle", "list", cwd=tmp_path).split() == bundles.names()
    assert "screening" in zsad(installed, "prompts", "list", cwd=tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", installed, "check"], capture_output=True, text=True, check=False
    )
    assert "monai-zsad" not in done.stdout


SMALL = ("--set", "image_size=64", "--no-progress")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [(), ("--bundle", "crane", "--set", "architecture=ViT-B-32", "--dry-run")], ids=["tiny", "crane"]
)
def test_screens_anywhere(installed: Path, tmp_path: Path, options: Sequence[str]):
    scan = tmp_path / "anna.nii.gz"
    write_nifti(scan, (24, 20, 6))
    printed = zsad(installed, "screen", scan, "-o", "out", *SMALL, *options, cwd=tmp_path)
    if "--dry-run" in options:
        assert str(installed.parents[1].resolve() / "lib") in printed
    else:
        assert "1 done in " in printed
        assert (tmp_path / "out" / "anna" / "anomaly.nii.gz").is_file()


@pytest.mark.slow
def test_monai_runs_an_installed_bundle_and_a_copy(installed: Path, tmp_path: Path):
    scan = tmp_path / "anna.nii.gz"
    write_nifti(scan, (24, 20, 6))
    inside = zsad(installed, "bundle", "path", "tiny_screening", cwd=tmp_path).strip()
    copied = zsad(installed, "bundle", "copy", "tiny_screening", "mine", cwd=tmp_path).strip()
    assert (tmp_path / copied / "models" / "model.pt").is_file()
    maps = []
    for number, folder in enumerate((inside, copied)):
        words = ["--config_file", f"{folder}/configs/inference.yaml", "--bundle_root", folder]
        words += ["--dataset_dir", str(scan), "--output_dir", f"out{number}", "--image_size", "64"]
        run(installed, "-m", "monai.bundle", "run", *words, cwd=tmp_path, OMP_NUM_THREADS="1")
        maps.append((tmp_path / f"out{number}" / "anna" / "anomaly.nii.gz").read_bytes())
    assert maps[0] == maps[1]
