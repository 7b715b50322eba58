"""Bundles as their users run them: folders of mixed scans, options typed on the command line, typing errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from nibabel.affines import apply_affine

from monai_zsad.networks import Crane
from monai_zsad.writers import SCHEMA_VERSION, SEEDED_WARNING
from tests.bundles.runs import BUNDLES, ROOT, config_file, run_small, seeded
from tests.data.samples import write_series
from tests.integration.scans import body, turned, write_nrrd
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE

CRANE = ROOT / "crane"
BATCH_BOUND = 2e-6  # as in the networks' own suite: slices alone and in a batch
# Two spellings of one oblique affine round differently; resampling and the network carry that into the map.
REWRITTEN_BOUND = 1e-4


class Finished(NamedTuple):
    code: int
    output: str


def bundle_run(folder: Path, *options: str) -> Finished:
    """``python -m monai.bundle run`` for Crane, as typed in ``folder``."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config_file(CRANE)]
    command += ["--bundle_root", str(CRANE), "--architecture", str(ARCHITECTURE), "--image_size", str(IMAGE_SIZE)]
    for part, source in seeded(CRANE).items():
        command += [f"--{part}", source]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MONAI_ZSAD_TRACEBACK": "", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return Finished(done.returncode, done.stdout + done.stderr)


@pytest.fixture(autouse=True)
def _interpreter_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow leaves its traces: the hook of ``friendly_errors`` and the bundle on the search path."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """anna: NIfTI of odd orientation; ben: the same body as NRRD; cleo: DICOM; dora: damaged; nobody."""
    folder = tmp_path_factory.mktemp("study") / "scans"
    folder.mkdir()
    nibabel.save(turned(body(), "ILP"), folder / "anna.nii.gz")
    write_nrrd(folder / "more" / "ben.nrrd", body())
    write_series(folder / "patient" / "visit" / "cleo", prefix="IMG", suffix="")
    (folder / "patient" / "visit" / "cleo" / "notes.txt").write_text("no scan")
    damaged = folder / "dora.nii.gz"
    damaged.write_bytes((folder / "anna.nii.gz").read_bytes()[:-40])
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def finished(scans: Path) -> Finished:
    """The first run over the folder, into ``results`` beside it."""
    return bundle_run(scans.parent, "--dataset_dir", "scans", "--output_dir", "results", "--case_names", "files")


@pytest.fixture(scope="module")
def results(scans: Path, finished: Finished) -> Path:
    return scans.parent / "results"


def anomaly_map(results: Path, case: str) -> nibabel.Nifti1Image:
    return nibabel.load(results / case / "anomaly.nii.gz")


def scores(results: Path, case: str) -> dict[str, Any]:
    return json.loads((results / case / "scores.json").read_text(encoding="utf-8"))


def upright_values(image: nibabel.Nifti1Image) -> np.ndarray:
    return nibabel.as_closest_canonical(image).get_fdata()


def pixel_positions(files: list[Path]) -> np.ndarray:
    """Centres (mm, RAS) of three corner pixels of every file, from the DICOM headers alone: (files, 3, 3)."""
    positions = []
    for file in files:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        first = np.array(header.ImagePositionPatient, dtype=float)
        along_row, along_column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        row_step, column_step = (float(value) for value in header.PixelSpacing)
        right = first + along_row * column_step * (header.Columns - 1)
        down = first + along_column * row_step * (header.Rows - 1)
        positions.append([first, right, down])
    return np.array(positions) * [-1, -1, 1]


def assert_on_the_series_grid(image: nibabel.Nifti1Image, files: list[Path]) -> None:
    """Every pixel of the series is a voxel of the image, and the image has no others."""
    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    assert sorted(image.shape) == sorted([header.Rows, header.Columns, len(files)])
    voxels = apply_affine(np.linalg.inv(image.affine), pixel_positions(files))
    np.testing.assert_allclose(voxels, voxels.round(), atol=2e-3)
    assert voxels.min() > -0.5
    assert (voxels.reshape(-1, 3).max(0) < np.array(image.shape) - 0.5).all()
    spans = np.ptp(voxels.reshape(-1, 3), axis=0).round()
    np.testing.assert_array_equal(spans, np.array(image.shape) - 1)


def assert_a_map(image: nibabel.Nifti1Image) -> None:
    assert image.get_data_dtype() == np.float32
    values = image.get_fdata()
    assert np.isfinite(values).all()
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.std() > 0


def assert_slices_in_the_scans_frame(content: dict[str, Any], affine: np.ndarray, axis: int) -> None:
    """Slice indices and positions (mm, RAS) of the JSON belong to the scan as it was given."""
    entries = content["slice_scores"]
    shape = content["scan"]["shape"]
    voxels = apply_affine(np.linalg.inv(affine), [entry["position_mm"] for entry in entries])
    indices = [entry["slice"] for entry in entries]
    np.testing.assert_allclose(voxels[:, axis], indices, atol=2e-3)
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(shape[axis]))
    assert (voxels > -0.5).all()
    assert (voxels < np.array(shape) - 0.5).all()
    assert all(0 <= entry["score"] <= 1 for entry in entries)
    assert any(entry["scored"] for entry in entries)


# ---- the run -------------------------------------------------------------------------------------------------------


def test_one_damaged_scan_ends_in_a_sentence_and_exit_code_1(scans: Path, finished: Finished) -> None:
    assert finished.code == 1
    assert "Traceback" not in finished.output
    told = [line for line in finished.output.splitlines() if "dora  refused: " in line]
    assert len(told) == 1
    assert "] dora  refused: scans/dora.nii.gz: is damaged" in told[0]
    assert "copy or export it again" in told[0]
    assert "3 done, 1 refused in " in finished.output


def test_summary(results: Path) -> None:
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    assert (summary["done"], summary["failed"]) == (3, 1)
    states = {record["case"]: record["status"] for record in summary["cases"]}
    assert states == {"anna": "done", "ben": "done", "cleo": "done", "dora": "failed"}
    for record in summary["cases"]:
        if record["status"] == "done":
            assert record["volume_score"] == pytest.approx(scores(results, record["case"])["volume_score"])
        else:
            assert "damaged" in record["reason"]


def test_files(results: Path) -> None:
    files = [file.relative_to(results) for file in results.rglob("*") if file.is_file()]
    # Tables of the cases' states: tests/writers/test_status.py.
    found = sorted(str(file) for file in files if file.parts[0] not in (".status", "status.csv", "status.parquet"))
    names = (
        "anomaly.nii.gz candidates.nii.gz findings.csv findings.json manifest.json preview.png report.html scores.json"
    )
    assert found == sorted(
        [
            "index.html",
            "run.log",
            "summary.json",
            *(f"{c}/{end}" for c in ("anna", "ben", "cleo") for end in names.split()),
        ]
    )
    for case in ("anna", "ben", "cleo"):
        assert (results / case / "preview.png").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(("case", "axcodes"), [("anna", "ILP"), ("ben", "RAS")])
def test_map_lies_on_the_scans_grid(results: Path, case: str, axcodes: str) -> None:
    source, image = turned(body(), axcodes), anomaly_map(results, case)
    assert image.shape == source.shape
    np.testing.assert_allclose(image.affine, source.affine, atol=1e-4)
    assert_a_map(image)


def test_map_of_a_dicom_series_lies_on_its_grid(scans: Path, results: Path) -> None:
    image = anomaly_map(results, "cleo")
    assert_on_the_series_grid(image, sorted((scans / "patient" / "visit" / "cleo").glob("IMG*")))
    assert_a_map(image)


def test_one_body_gives_one_map_however_it_is_stored(results: Path) -> None:
    anna, ben = (upright_values(anomaly_map(results, case)) for case in ("anna", "ben"))
    np.testing.assert_allclose(anna, ben, atol=REWRITTEN_BOUND)
    entries = [
        sorted((e["position_mm"], e["score"]) for e in scores(results, c)["slice_scores"]) for c in ("anna", "ben")
    ]
    assert len(entries[0]) == len(entries[1])
    for (position, score), (other_position, other_score) in zip(*entries, strict=True):
        np.testing.assert_allclose(position, other_position, atol=1e-3)
        assert score == pytest.approx(other_score, abs=REWRITTEN_BOUND)


@pytest.mark.parametrize(("case", "orientation", "axis"), [("anna", "ILP", 0), ("ben", "RAS", 2)])
def test_scores(results: Path, case: str, orientation: str, axis: int) -> None:
    content = scores(results, case)
    assert content["schema_version"] == SCHEMA_VERSION
    assert content["case"] == case
    assert content["anomaly_map"] == "anomaly.nii.gz"
    assert content["scan"]["orientation"] == orientation
    assert content["scan"]["modality"] is None
    assert content["scan"]["shape"] == list(turned(body(), orientation).shape)
    assert content["warnings"] == [SEEDED_WARNING]
    assert content["model"]["method"] == "Crane"
    assert {part: record["name"] for part, record in content["model"]["weights"].items()} == {
        "clip": "seed:0",
        "prompts": "seed:0",
    }
    assert 0 < content["volume_score"] < 1
    assert_slices_in_the_scans_frame(content, turned(body(), orientation).affine, axis)


def test_scores_of_a_dicom_series(scans: Path, results: Path) -> None:
    content = scores(results, "cleo")
    assert content["scan"]["modality"] == "MR"
    assert SEEDED_WARNING in content["warnings"]
    affine = anomaly_map(results, "cleo").affine
    axis = int(np.argmax(np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))
    assert_slices_in_the_scans_frame(content, affine, axis)


def test_a_second_run_needs_leave_to_overwrite(
    scans: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {file: file.stat().st_mtime_ns for file in results.rglob("*")}
    for options in ({}, {"overwrite": False}, {"overwrite": "false"}):
        with pytest.raises(Exception, match="check_output") as caught:
            run_small(CRANE, scans, results, case_names="files", **options)
        sentence = one_sentence(caught.value, capsys)
        assert "already holds results of anna, ben, cleo" in sentence
        assert "--overwrite true" in sentence
    assert {file: file.stat().st_mtime_ns for file in results.rglob("*")} == files


def test_options_as_typed(scan: Path, plain: Path) -> None:
    """The command line hands words, numbers and lists on as it understands them."""
    options = ["--overwrite", "true", "--window", "[300, 900]", "--fused_planes", "['axial', 'coronal']"]
    options += ["--precision", "bfloat16", "--batch_size", "2", "--device", "cpu", "--token_spacing_mm", "6.5"]
    options += ["--amp", "false", "--progress", "false", "--smooth_slices_mm", "None"]
    done = bundle_run(scan.parent, "--dataset_dir", scan.name, "--output_dir", str(plain / "typed"), *options)
    assert done.code == 0, done.output
    assert "1 done in " in done.output
    assert "slice/s" not in done.output  # no progress bar
    content = scores(plain / "typed", "anna")
    assert "300/900 HU" in content["scan"]["intensity"]
    assert content["model"]["precision"] == "bfloat16"
    difference = anomaly_map(plain / "typed", "anna").get_fdata() - anomaly_map(plain, "anna").get_fdata()
    assert np.abs(difference).max() > 1e-3


def test_results_may_lie_among_the_scans(tmp_path: Path) -> None:
    nibabel.save(body(), tmp_path / "anna.nii.gz")
    for _ in range(2):
        run_small(CRANE, tmp_path, tmp_path / "eval", overwrite="true")
        summary = json.loads((tmp_path / "eval" / "summary.json").read_text(encoding="utf-8"))
        assert [record["case"] for record in summary["cases"]] == ["anna"]


# ---- options -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one") / "anna.nii.gz"
    nibabel.save(turned(body(), "ILP"), path)
    return path


@pytest.fixture(scope="module")
def plain(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results without any option."""
    output = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(sys, "path", list(sys.path))
        run_small(CRANE, scan, output)
    return output


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda folder: folder.name)
def test_every_bundle_runs(bundle: Path, scan: Path, tmp_path: Path) -> None:
    run_small(bundle, scan, tmp_path)
    image = anomaly_map(tmp_path, "anna")
    assert_a_map(image)
    np.testing.assert_allclose(image.affine, nibabel.load(scan).affine, atol=1e-4)
    assert SEEDED_WARNING in scores(tmp_path, "anna")["warnings"]


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 64}, {"device": "cpu", "num_workers": 1}])
def test_options_that_change_no_value(plain: Path, scan: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    run_small(CRANE, scan, tmp_path, **options)
    found, expected = (anomaly_map(folder, "anna").get_fdata() for folder in (tmp_path, plain))
    np.testing.assert_allclose(found, expected, atol=BATCH_BOUND)


@pytest.mark.parametrize(
    "options",
    [
        {"plane": "coronal"},
        {"plane": "acquisition"},
        {"fused_planes": ["axial", "coronal", "sagittal"]},
        {"fused_planes": ["axial", "sagittal"], "fusion": "max"},
        {"window": "brain"},
        {"window": ["brain", [300, 900], "bone"]},
        {"token_spacing_mm": 4.0, "overlap": 0.5},
        {"smooth_slices_mm": 4.0},
        {"slice_spacing_mm": 100.0},
        {"precision": "bfloat16"},
        {"amp": True},
        {"crop_margin_mm": 0},
        {"average": "logits", "image_size": 42},
    ],
    ids=str,
)
def test_options_that_change_the_map(plain: Path, scan: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    run_small(CRANE, scan, tmp_path, **options)
    image, before = anomaly_map(tmp_path, "anna"), anomaly_map(plain, "anna")
    assert image.shape == before.shape
    np.testing.assert_array_equal(image.affine, before.affine)
    assert_a_map(image)
    difference = np.abs(image.get_fdata() - before.get_fdata()).max()
    if options.keys() & {"precision", "amp"}:
        assert 0 < difference < 0.03
    elif options == {"plane": "acquisition"}:
        assert difference == 0  # the thick axis of this scan is the axial one
    else:
        assert difference > 1e-3


def test_plane_decides_which_slices_are_scored(scan: Path, tmp_path: Path) -> None:
    run_small(CRANE, scan, tmp_path, plane="coronal")
    assert_slices_in_the_scans_frame(scores(tmp_path, "anna"), nibabel.load(scan).affine, axis=2)


@pytest.mark.parametrize("method", ["max", "mean"])
def test_volume_score(scan: Path, tmp_path: Path, method: str) -> None:
    run_small(CRANE, scan, tmp_path, volume_score=method)
    content = scores(tmp_path, "anna")
    scored = [entry["score"] for entry in content["slice_scores"] if entry["scored"]]
    assert content["volume_score"] == pytest.approx(getattr(np, method)(scored), abs=1e-6)


# ---- typing errors -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network with other widths, an empty folder, a file that is no scan."""
    folder = tmp_path_factory.mktemp("wrong")
    vision, text = ARCHITECTURE["vision_cfg"], ARCHITECTURE["text_cfg"]
    other = Crane(
        {"embed_dim": 32, "vision_cfg": {**vision, "width": 64}, "text_cfg": {**text, "width": 128, "heads": 2}},
        IMAGE_SIZE,
    )
    other.load_weights(clip="seed:0", prompts="seed:0")
    torch.save(other.clip.state_dict(), folder / "clip.pt")
    torch.save({"prompt_learner": other.prompt_learner.state_dict()}, folder / "prompts.pth")
    torch.save(other.portable_state_dict(), folder / "model.pt")
    (folder / "damaged.pth").write_bytes((folder / "prompts.pth").read_bytes()[:-100])
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no scan")
    return folder


UNNAMED = {"weights#clip": None, "weights#prompts": None}
BAD_INPUT: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown weights": ({"weights#clip": "ViT-L-14-336:openia"}, ("'ViT-L-14-336:openia'", "did you mean", "list")),
    "missing file": ({"weights#clip": "{wrong}/no.pt"}, ("no.pt does not exist", "check the path")),
    "missing prompts": ({"weights#prompts": "{wrong}/no.pth"}, ("no.pth does not exist", "check the path")),
    "damaged file": ({"weights#prompts": "{wrong}/damaged.pth"}, ("damaged.pth",)),
    "unknown part": ({"weights#prior": "seed:0"}, ("prior", "clip, prompts")),
    "CLIP of another width": (
        {"weights#clip": "{wrong}/clip.pt", "weights_activation": "quick_gelu"},
        ("clip.pt", "another shape", "(128,), needed (64,)", "Choose"),
    ),
    "prompts of another width": (
        {"weights#prompts": "{wrong}/prompts.pth"},
        ("prompts.pth", "(1, 1, 12, 128)", "needs (1, 1, 12, 64)", "choose"),
    ),
    "model.pt of another width": (
        {"checkpoint": "{wrong}/model.pt", **UNNAMED},
        ("model.pt", "does not fit", "convert"),
    ),
    "not on this machine": (UNNAMED, ("ViT-L-14-336:openai", "curl", "weights fetch", "MONAI_ZSAD_WEIGHTS")),
    "image size": ({"image_size": 60}, ("image_size=60", "multiple of the patch size 14", "use 56 or 70")),
    "architecture": ({"architecture": "ViT-L-14-366"}, ("architecture='ViT-L-14-366'", "ViT-L-14-336")),
    "missing folder": ({"dataset_dir": "{wrong}/no"}, ("wrong", "/no", "give a NIfTI (.nii)")),
    "empty folder": ({"dataset_dir": "{wrong}/empty"}, ("is an empty folder", "give a NIfTI (.nii)")),
    "no scan": ({"dataset_dir": "{wrong}/notes.txt"}, ("holds no scan", "give a NIfTI (.nii)")),
    "output is a file": ({"output_dir": "{wrong}/notes.txt"}, ("notes.txt", "another --output_dir")),
    "window": ({"window": "brian"}, ("window='brian'", "did you mean brain", "[level, width]")),
    "width of a window": ({"window": [40, -80]}, ("[40, -80]", "width above 0")),
    "plane": ({"plane": "axail"}, ("plane='axail'", "axial, coronal, sagittal, acquisition", "did you mean axial")),
    "fused planes": ({"fused_planes": ["axial", "coronla"]}, ("planes=", "coronla", "axial, coronal, sagittal")),
    "precision": ({"precision": "float8"}, ("precision='float8'", "float32, bfloat16, float16")),
    "runtime": ({"runtime": "tensorrt"}, ("runtime='tensorrt'", "torch, onnx, openvino")),
    "batch size": ({"batch_size": 0}, ("batch_size=0", "at least 1")),
    "token spacing": ({"token_spacing_mm": -1}, ("token_spacing_mm=-1", "above 0")),
    "volume score": ({"volume_score": "median"}, ("'median'", "top_k_mean, max, quantile, mean")),
    "average": ({"average": "median"}, ("average='median'", "'probabilities' or 'logits'")),
    "ending": ({"output_ext": ".png"}, ("'.png'", ".nii.gz, .nii")),
    "device that is not there": ({"device": "cuda:99"}, ("cuda:99", "use 'cpu'")),
    "device that is none": ({"device": "gpu"}, ("device='gpu'", "'cuda'")),
    "image size in words": ({"image_size": "large"}, ("image_size='large'", "whole number")),
    "type of the map": ({"output_dtype": "float31"}, ("output_dtype='float31'", "float32")),
    "weights as one word": ({"weights": "seed:0"}, ("--weights#clip seed:0",)),
    "activation": ({"weights_activation": "relu"}, ("weights_activation='relu'", "quick_gelu or gelu")),
}


def one_sentence(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    """What the user reads of an error: the interpreter's last act is to call this hook."""
    capsys.readouterr()
    sys.excepthook(type(error), error, error.__traceback__)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: "), captured.err
    # Commands to copy stand on lines of their own; anything else is one line.
    assert captured.err.count("\n") == 1 or "\n    curl " in captured.err
    return captured.err


@pytest.mark.parametrize(("options", "told"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_sentence_with_the_remedy(
    options: dict[str, Any],
    told: tuple[str, ...],
    scan: Path,
    wrong: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MONAI_ZSAD_OFFLINE", "1")
    for variable in ("MONAI_ZSAD_WEIGHTS", "HF_HOME", "TORCH_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    filled: dict[str, Any] = {"dataset_dir": scan, "output_dir": tmp_path / "out"}
    filled |= {key: value.format(wrong=wrong) if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps it; the sentence is what counts
        run_small(CRANE, **filled)
    sentence = one_sentence(caught.value, capsys)
    for words in told:
        assert words in sentence
    assert not list(tmp_path.rglob("*.nii.gz"))


# ---- real scans ----------------------------------------------------------------------------------------------------

REAL_SIZE = {"architecture": "ViT-B-16", "image_size": 224}


@pytest.mark.slow
def test_real_dicom(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "dicom_vs_seg_001"
    run_small(CRANE, folder, tmp_path, case_names="files", **REAL_SIZE)
    image = anomaly_map(tmp_path, folder.name)
    assert_a_map(image)
    assert_on_the_series_grid(image, sorted(folder.glob("*.dcm")))
    content = scores(tmp_path, folder.name)
    axis = int(np.argmax(np.abs(image.affine[2, :3]) / np.linalg.norm(image.affine[:3, :3], axis=0)))
    assert_slices_in_the_scans_frame(content, image.affine, axis)
    assert content["scan"]["modality"] == "MR"


@pytest.mark.slow
def test_real_nifti(shared: Path, tmp_path: Path) -> None:
    (path,) = sorted((shared / "data" / "ms3d").rglob("patient19_FLAIR.nii*"))
    run_small(CRANE, path, tmp_path, **REAL_SIZE)
    source, image = nibabel.load(path), anomaly_map(tmp_path, "patient19_FLAIR")
    assert image.shape == source.shape
    np.testing.assert_allclose(image.affine, source.affine, atol=1e-5)
    assert_a_map(image)
    axis = int(np.argmax(np.abs(source.affine[2, :3])))
    assert_slices_in_the_scans_frame(scores(tmp_path, "patient19_FLAIR"), source.affine, axis)
