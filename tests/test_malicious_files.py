"""A pickle that would run code, in every place where the package reads a file: refused, and never run."""

from __future__ import annotations

import ast
import functools
import gzip
import io
import json
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydicom.errors import InvalidDicomError
from typer.testing import CliRunner

import monai_zsad
from monai_zsad.backbones.weights import read_state_dict
from monai_zsad.cli.main import app
from monai_zsad.data import ScanReader, extract_archive, find_labelled, find_studies
from monai_zsad.errors import InputError, ZsadError
from monai_zsad.networks.anchor_cache import anchor_folder
from monai_zsad.prompts import PromptEnsemble, reading
from monai_zsad.training.feature_cache import FeatureCache
from monai_zsad.training.files import read_training_state
from monai_zsad.training.small_model import export_model
from monai_zsad.workflow.bundles import bundle_network, load_weights
from monai_zsad.workflow.calibration import collect, load_calibration
from monai_zsad.workflow.cases.names import find_cases
from monai_zsad.workflow.options import early
from monai_zsad.workflow.options.command_line import read_settings
from monai_zsad.writers import verify_manifest, write_index
from tests.bundles.runs import ROOT
from tests.networks.zoo import aaclip, anoclip, crane

PACKAGE = Path(monai_zsad.__file__).parent


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def raw(marker: Path) -> bytes:
    return pickle.dumps({"state_dict": Evil(marker)}, protocol=2)


def saved_by_torch(marker: Path, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": {"weight": Evil(marker)}}, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def torchscript(marker: Path) -> bytes:
    """A real archive of TorchScript, its values replaced."""
    stream, changed = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), stream)
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            target.writestr(name, raw(marker) if name.endswith(("data.pkl", "constants.pkl")) else source.read(name))
    return changed.getvalue()


def object_array(marker: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Evil(marker)], dtype=object), allow_pickle=True)
    return stream.getvalue()


FORMS: dict[str, Callable[[Path], bytes]] = {
    "raw": raw,
    "zip": lambda marker: saved_by_torch(marker, True),
    "legacy": lambda marker: saved_by_torch(marker, False),
    "torchscript": torchscript,
    "npy": object_array,
    "gzip": lambda marker: gzip.compress(raw(marker)),
    "yaml": lambda marker: f"!!python/object/apply:pathlib.Path.touch [!!python/name:x , {marker}]".encode(),
}
WEIGHTS = ("raw", "zip", "legacy", "torchscript", "npy")


def read_scan(path: Path) -> None:
    # A file that is no DICOM at all is refused by pydicom itself, in its own words.
    try:
        ScanReader().get_data(ScanReader().read(path))
    except InvalidDicomError as error:
        raise InputError(f"{path}: {error}") from error


@functools.cache
def network_of(make: Callable[[], Any]) -> Any:
    return make()


def in_bundle(path: Path) -> None:
    """As a run does: the converted file of a bundle."""
    network, released = bundle_network(ROOT / "tiny_screening", image_size=64)
    load_weights(network, {}, released, checkpoint=path)


def prompt_checkpoint(path: Path) -> None:
    network_of(crane).load_weights(clip="seed:0", prompts=path)


def adapter(path: Path) -> None:
    network_of(aaclip).load_weights(clip="seed:0", image_adapter=path, text_adapter="seed:0")


def best_epoch(path: Path) -> None:
    shutil.copy(path, path.with_name("best_network.pth"))
    export_model(None, path.parent, path.with_name("out.pt"))  # type: ignore[arg-type]  # it is read first


READERS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], tuple[str, ...]]] = {
    "weights": (read_state_dict, (".pt", ".pth", ".bin", ".ckpt", ".safetensors"), WEIGHTS),
    "CLIP": (lambda path: network_of(anoclip).load_weights(clip=path), (".pt", ".safetensors"), WEIGHTS),
    "prompt checkpoint": (prompt_checkpoint, (".pth",), WEIGHTS),
    "adapter": (adapter, (".pth",), WEIGHTS),
    "model.pt of a bundle": (in_bundle, (".pt",), WEIGHTS),
    "state of a training": (read_training_state, (".pt",), WEIGHTS),
    "best epoch of a training": (best_epoch, (".pth",), WEIGHTS),
    "scan": (
        read_scan,
        (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".png", ".jpg", ".npy", ".pkl", ""),
        ("raw", "gzip", "npy"),
    ),
    "list of scans": (
        lambda path: find_cases(path, path.parent / "out"),
        (".csv", ".tsv", ".json"),
        ("raw", "npy", "gzip"),
    ),
    "archive of scans": (
        lambda path: find_cases(path, path.parent / "out"),
        (".zip", ".npy", ".pkl"),
        ("raw", "npy", "zip"),
    ),
    "calibration": (load_calibration, (".json",), ("raw", "npy", "zip")),
    "prompts": (PromptEnsemble.from_yaml, (".yaml",), ("raw", "yaml", "npy")),
}


@pytest.mark.parametrize(
    ("name", "suffix", "form"),
    [(name, suffix, form) for name, (_, suffixes, forms) in READERS.items() for suffix in suffixes for form in forms],
)
def test_refused_and_not_run(tmp_path: Path, name: str, suffix: str, form: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / f"given{suffix}"
    path.write_bytes(FORMS[form](marker))
    with pytest.raises(ZsadError, match="best_network" if name == "best epoch of a training" else "given"):
        READERS[name][0](path)
    assert not marker.exists()


def test_the_pickles_would_run(tmp_path: Path) -> None:
    for form in ("raw", "zip", "legacy", "npy", "gzip"):
        content, marker = FORMS[form](tmp_path / form), tmp_path / form
        if form == "npy":
            np.load(io.BytesIO(content), allow_pickle=True)
        elif form in ("zip", "legacy"):
            torch.load(io.BytesIO(content), weights_only=False)
        else:
            pickle.loads(gzip.decompress(content) if form == "gzip" else content)  # noqa: S301 (written here)
        assert marker.exists(), form


@pytest.mark.parametrize("form", ["raw", "zip", "npy"])
def test_description_of_a_bundles_weights(tmp_path: Path, form: str) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    (tmp_path / "model.json").write_bytes(FORMS[form](tmp_path / "ran"))
    with pytest.raises(ZsadError, match=r"model\.json"):
        in_bundle(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["raw", "zip", "legacy", "npy"])
def test_caches_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """A kept file that is none is no error: what it held is computed again."""
    marker = tmp_path / "ran"
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path / "weights"))
    wanted = anoclip().text_anchors
    cache = FeatureCache(tmp_path / "features", {})
    images = torch.rand(1, 1, 4, 4)
    first = cache(images, lambda images: {"mean": images.mean((1, 2, 3))})
    files = [*anchor_folder().iterdir(), *(tmp_path / "features").iterdir()]
    assert len(files) == 2
    for file in files:
        file.write_bytes(FORMS[form](marker))
    assert torch.equal(anoclip().text_anchors, wanted)
    again = cache(images, lambda images: {"mean": images.mean((1, 2, 3))})
    assert torch.equal(again["mean"], first["mean"])
    assert not marker.exists()


@pytest.mark.parametrize("form", ["raw", "npy"])
def test_results_of_an_earlier_run(tmp_path: Path, form: str) -> None:
    """Files of a results folder that are no JSON are damaged results."""
    marker, case = tmp_path / "ran", tmp_path / "out" / "anna"
    case.mkdir(parents=True)
    for file in (case / "findings.json", case / "manifest.json", case.parent / "summary.json"):
        file.write_bytes(FORMS[form](marker))
    with pytest.raises(ZsadError, match=r"anna.findings\.json"):
        collect(case.parent)
    assert verify_manifest(case.parent, "anna")
    write_index(case.parent)
    assert not marker.exists()


@pytest.mark.parametrize("form", ["raw", "npy", "zip"])
def test_what_lies_in_a_folder(tmp_path: Path, form: str) -> None:
    marker, folder = tmp_path / "ran", tmp_path / "in"
    folder.mkdir()
    for suffix in (".dcm", ".nii.gz", ".nrrd", ".png", ".npy", ".npz", ".pkl", ".pt", ""):
        (folder / f"file{suffix}").write_bytes(FORMS[form](marker))
    (folder / "meta.json").write_bytes(FORMS[form](marker))
    assert find_studies(folder)
    find_cases(folder, tmp_path / "out")
    with pytest.raises(ZsadError):
        find_labelled(folder)
    done = CliRunner().invoke(app, ["info", str(folder)])
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)  # refused, not broken
    assert not marker.exists()


@pytest.mark.parametrize(
    "member", ["../evil.nii", "a/../../evil.nii", "/tmp/evil.nii", "..\\evil.nii", "C:/evil.nii", "link"]
)
def test_archives_cannot_write_outside_their_folder(tmp_path: Path, member: str) -> None:
    source, target = tmp_path / "in" / "study.zip", tmp_path / "out"
    source.parent.mkdir()
    info = zipfile.ZipInfo(member)
    if member == "link":
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(InputError, match=r"lies outside of its folder|is a link"):
        extract_archive(source, target)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file != source]


def test_values_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match="YAML"):
        read_settings([f"window={FORMS['yaml'](tmp_path / 'ran').decode()}"])
    with pytest.raises(ZsadError, match="YAML"):
        read_settings([f"window=!!python/object/apply:os.mkdir [{tmp_path / 'ran'}]"])
    assert not (tmp_path / "ran").exists()


def test_a_network_written_out_is_read_back(tmp_path: Path) -> None:
    """The refusals above are no refusal of everything."""
    state = crane().state_dict()
    torch.save(state, tmp_path / "model.pt")
    assert read_state_dict(tmp_path / "model.pt").keys() == state.keys()
    (tmp_path / "prompts.yaml").write_text(json.dumps({"normal": ["fine"], "abnormal": ["ill"]}))
    assert PromptEnsemble.from_yaml(tmp_path / "prompts.yaml").normal == ("fine",)


# Names of loaders; a test below shows that they build plain values only.
_SAFE_LOADERS = ("_StrictLoader", "_SafeLoader")


def dangerous(tree: ast.AST) -> list[str]:
    """Calls that may run what a file holds."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None) or ""
            found += [f"{node.lineno}: {name}" for name in names if name in ("dill", "joblib", "cloudpickle", "shelve")]
            if module == "pickle" and set(names) - {"UnpicklingError", "PickleError"}:
                found.append(f"{node.lineno}: from pickle import {names}")
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in ("eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads"):
            found.append(f"{node.lineno}: {name}")
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(f"{node.lineno}: torch.load without weights_only=True")
        if name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
            found.append(f"{node.lineno}: np.load with pickles")
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load") and given.get("Loader") not in _SAFE_LOADERS:
            found.append(f"{node.lineno}: {name}")
    return found


def test_no_reader_runs_what_it_reads() -> None:
    """So that a new reader cannot be forgotten above: the package has no call that would."""
    assert issubclass(early._SafeLoader, yaml.constructor.SafeConstructor)
    assert issubclass(reading._StrictLoader, yaml.constructor.SafeConstructor)
    problems = [
        f"{file.relative_to(PACKAGE)}:{problem}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for problem in dangerous(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not problems


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "pickle.loads(b)",
        "yaml.load(t, Loader=yaml.Loader)",
        "eval(t)",
        "from pickle import loads",
        "import joblib",
    ],
)
def test_such_calls_are_found(line: str) -> None:
    assert dangerous(ast.parse(line))
