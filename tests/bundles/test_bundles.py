"""What every bundle is held to: the model zoo's rules, one home for each fact, no network at start-up."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import inspect
import json
import logging
import logging.handlers
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import monai.bundle.scripts
import pytest
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from monai_zsad import __version__
from monai_zsad.backbones.weights import WeightsEntry, get_entry
from monai_zsad.networks import ZeroShotNetwork
from tests.bundles.runs import ALL_BUNDLES, ROOT, config_file, parser_of, seeded, small
from tests.data.samples import write_nifti

FILES = (
    "LICENSE",
    "configs/inference.yaml",
    "configs/logging.conf",
    "configs/metadata.json",
    "docs/README.md",
    "docs/data_license.txt",
)
SECTIONS = (
    "Model Description", "Data", "Training Configuration", "Input", "Preprocessing", "Output", "Performance",
    "Commands", "Evaluation", "Limitations", "System Configuration", "Authors", "Tags", "References", "License",
)  # fmt: skip
ZOO_IDS = (
    "bundle_root", "dataset_dir", "output_dir", "output_dtype", "device", "network_def", "network", "datalist",
    "preprocessing", "dataset", "dataloader", "inferer", "postprocessing", "handlers", "evaluator", "initialize", "run",
)  # fmt: skip


@pytest.fixture(params=ALL_BUNDLES, ids=lambda folder: folder.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No socket, and no weights that an earlier run may have left; returns the empty weights folder."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"reached for the network: {args} {kwargs}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    folder = tmp_path / "weights"
    for variable in ("MONAI_ZSAD_WEIGHTS", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(folder))
    return folder


@pytest.fixture
def quiet_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow leaves its traces in the interpreter: the hook of ``friendly_errors`` and the search path."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))


def metadata_of(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))


def released_entries(bundle: Path) -> list[WeightsEntry]:
    return [get_entry(name) for name in parser_of(bundle)["released_weights"].values() if name is not None]


def large_files(bundle: Path) -> list[dict[str, str]]:
    file = bundle / "large_files.yml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))["large_files"] if file.is_file() else []


def test_bundles_are_found() -> None:
    assert {"aaclip", "anoclip", "anomalyclip", "crane", "crane_plus", "musc", "tiny_screening"} <= {
        bundle.name for bundle in ALL_BUNDLES
    }


@pytest.mark.parametrize("name", FILES)
def test_files_of_a_zoo_bundle(bundle: Path, name: str) -> None:
    file = bundle / name
    assert file.is_file()
    assert file.stat().st_size > 100


def test_weights_come_with_the_bundle_or_are_listed(bundle: Path) -> None:
    # The weights of `musc` lie in the bundle of the included model.
    own = bundle if bundle.name != "musc" else ROOT / "tiny_screening"
    assert large_files(bundle) or (own / "models" / "model.pt").is_file()
    listed = {bundle / entry["path"] for entry in large_files(bundle)}
    ignored = (".pt", ".onnx", ".ts")  # of a models folder that someone has filled
    heavy = [f for f in bundle.rglob("*") if f.is_file() and f.suffix not in ignored and f.stat().st_size > 25_000_000]
    assert not set(heavy) - listed


def test_licence_is_this_projects(bundle: Path) -> None:
    assert (bundle / "LICENSE").read_bytes() == (bundle.parents[1] / "LICENSE").read_bytes()


def test_large_files_are_those_of_the_registry(bundle: Path) -> None:
    # Only a complete hash can be checked by MONAI; open_clip's registry states eight digits for some files.
    expected = [
        {
            "path": f"models/{entry.filename}",
            "url": entry.url,
            "hash_val": entry.sha256 if len(entry.sha256) == 64 else "",
            "hash_type": "sha256" if len(entry.sha256) == 64 else "",
        }
        for entry in released_entries(bundle)
        if entry.url
    ]
    if large_files(bundle):
        assert large_files(bundle) == expected


def test_monai_accepts_large_files(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = large_files(bundle)
    if not listed:
        pytest.skip("weights lie in the bundle")
    shutil.copy(bundle / "large_files.yml", tmp_path)
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(monai.bundle.scripts, "download_url", lambda **wanted: asked.append(wanted))
    monai.bundle.download_large_files(bundle_path=str(tmp_path))
    assert [Path(wanted["filepath"]) for wanted in asked] == [tmp_path / entry["path"] for entry in listed]
    assert [wanted.get("hash_val", "") for wanted in asked] == [entry["hash_val"] for entry in listed]


def test_data_license_names_every_weights_licence(bundle: Path) -> None:
    text = (bundle / "docs" / "data_license.txt").read_text(encoding="utf-8")
    for entry in released_entries(bundle):
        assert entry.licence in text
        assert entry.homepage in text
    assert "patient" in text


# ---- metadata ------------------------------------------------------------------------------------------------------


def test_metadata_follow_the_schema(bundle: Path, shared: Path, tmp_path: Path, offline: Path) -> None:
    schema = tmp_path / "schema.json"
    shutil.copy(shared / "spec" / "meta_schema_20240725.json", schema)
    monai.bundle.verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(schema))
    assert metadata_of(bundle)["schema"].endswith("/0.8.1/meta_schema_20240725.json")


def test_metadata_versions(bundle: Path) -> None:
    metadata = metadata_of(bundle)
    assert metadata["version"] in metadata["changelog"]
    for key in ("monai_version", "pytorch_version", "numpy_version"):
        Version(metadata[key])
    required = {**metadata["required_packages_version"], "monai": metadata["monai_version"]}
    required["torch"] = metadata["pytorch_version"]
    assert required["monai-zsad"] == __version__
    accepted = {canonicalize_name(wanted.name): wanted.specifier for wanted in map(Requirement, _requirements())}
    for name, version in required.items():
        assert accepted.get(canonicalize_name(name), SpecifierSet()).contains(Version(version)), name


def _requirements() -> list[str]:
    return [line for line in importlib.metadata.requires("monai-zsad") or [] if "extra ==" not in line]


def test_metadata_state_the_size_of_the_configuration(bundle: Path) -> None:
    image = metadata_of(bundle)["network_data_format"]["inputs"]["image"]
    assert image["spatial_shape"] == [parser_of(bundle)["image_size"]] * 2


# ---- configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identifier", ZOO_IDS)
def test_ids_of_the_zoo(bundle: Path, identifier: str) -> None:
    assert identifier in parser_of(bundle)


@pytest.mark.usefixtures("offline", "quiet_workflow")
def test_monai_finds_every_property(bundle: Path, tmp_path: Path) -> None:
    write_nifti(tmp_path / "scans" / "anna.nii.gz")
    write_nifti(tmp_path / "scans" / "ben.nii.gz")
    workflow = ConfigWorkflow(
        config_file=config_file(bundle),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(tmp_path / "scans"),
        output_dir=str(tmp_path / "out"),
        **small(bundle),
        **seeded(bundle),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_logging_is_that_of_every_bundle_and_leaves_out_the_chatter_of_highdicom(bundle: Path) -> None:
    file = bundle / "configs" / "logging.conf"
    assert file.read_text() == (ROOT / "tiny_screening" / "configs" / "logging.conf").read_text()
    program = (
        "import logging, sys; from logging.config import fileConfig; fileConfig(sys.argv[1]); "
        "print([logging.getLogger(name).getEffectiveLevel() for name in ('monai_zsad', 'highdicom.base')])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([logging.INFO, logging.WARNING])


def test_logging_names_only_standard_classes(bundle: Path) -> None:
    parser = configparser.RawConfigParser()
    parser.read(bundle / "configs" / "logging.conf", encoding="utf-8")
    handlers = [section for section in parser.sections() if section.startswith("handler_")]
    assert handlers
    for section in handlers:
        name = parser.get(section, "class")
        assert hasattr(logging, name) or hasattr(logging.handlers, name.removeprefix("handlers."))
        arguments = parser.get(section, "args").replace("sys.stdout", "0").replace("sys.stderr", "0")
        assert isinstance(ast.literal_eval(arguments), tuple)
    assert not [s for s in parser.sections() if s.startswith("formatter_") and parser.has_option(s, "class")]


def test_building_the_network_needs_no_network(bundle: Path, offline: Path) -> None:
    network = parser_of(bundle, **small(bundle)).get_parsed_content("network_def")
    assert isinstance(network, ZeroShotNetwork)
    assert network.text_anchors.isnan().all()
    assert not network.records
    assert not offline.exists()


def _verify_net_in_out(bundle: Path, **overrides: Any) -> None:
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=config_file(bundle),
        device="cpu",
        **overrides,
    )


def test_network_agrees_with_the_metadata(bundle: Path) -> None:
    shape = {"_meta_#network_data_format#inputs#image#spatial_shape": [small(bundle)["image_size"]] * 2}
    _verify_net_in_out(bundle, **small(bundle), **shape)


@pytest.mark.slow
def test_network_agrees_with_the_metadata_at_its_real_size(bundle: Path) -> None:
    _verify_net_in_out(bundle)


def test_overlays_change_what_there_is(bundle: Path) -> None:
    """`fast.yaml` and the like: presets of the options, each accepted by the network."""
    for overlay in sorted((bundle / "configs").glob("fast*.yaml")):
        preset = yaml.safe_load(overlay.read_text(encoding="utf-8"))
        parser = parser_of(bundle)
        assert not [identifier for identifier in preset if identifier not in parser]
        overrides = {**small(bundle), "image_size": preset.get("image_size", small(bundle)["image_size"])}
        network = parser_of(bundle, **{**preset, **overrides}).get_parsed_content("network_def")
        network.set_precision(preset.get("precision", "float32"))


# ---- README --------------------------------------------------------------------------------------------------------


def _readme(bundle: Path) -> str:
    return (bundle / "docs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("section", SECTIONS)
def test_readme_has_the_section(bundle: Path, section: str) -> None:
    assert re.search(rf"^#+ {section}\s*$", _readme(bundle), re.MULTILINE | re.IGNORECASE)


def _option_problems(readme: str, parser: ConfigParser) -> list[str]:
    """Options of ``python -m monai.bundle`` in code blocks, and inline ones, that neither MONAI nor the YAML knows."""
    blocks = re.findall(r"^```.*?$(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    problems = []
    for line in commands:
        if match := re.search(r"-m monai\.bundle (\w+)(.*)", line):
            function = getattr(monai.bundle, match[1])
            known = inspect.signature(function).parameters
            options = re.findall(r"(?<!\S)--([\w#]+)", match[2])
            problems += [f"{match[1]} --{option}" for option in options if option not in known and option not in parser]
    prose = re.sub(r"^```.*?^```", "", readme, flags=re.MULTILINE | re.DOTALL)
    run = inspect.signature(monai.bundle.run).parameters
    options = re.findall(r"`--([\w#]+)", prose)
    return problems + [f"--{option}" for option in options if option not in run and option not in parser]


def test_readme_names_only_known_options(bundle: Path) -> None:
    parser = parser_of(bundle)
    # Evaluation and training have options of their own.
    more = [bundle / "configs" / name for name in ("evaluate.yaml", "train.yaml")]
    parser.read_config([config_file(bundle), *(str(file) for file in more if file.is_file())])
    assert not _option_problems(_readme(bundle), parser)


def test_unknown_options_are_found() -> None:
    readme = (
        "Set `--plane coronal` or `--plain`.\n```bash\npython -m monai.bundle run --weights#clip a \\\n  --typo b\n```"
    )
    assert _option_problems(readme, parser_of(ALL_BUNDLES[0])) == ["run --typo", "--plain"]
