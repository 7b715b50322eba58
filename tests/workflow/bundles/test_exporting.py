"""``export``: files of bundles' networks, opened by other programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.networks.runtimes.export import FORMATS, write_network
from monai_zsad.workflow.bundles import bundle_network, export, load_weights
from tests.cli.test_screen import invoke
from tests.networks.zoo import anoclip
from tests.workshop import make_bundles

# Nothing of this package may be needed to open the file.
ALONE = """
import sys
sys.modules["monai_zsad"] = None
import torch
images = torch.load(sys.argv[2])
network = torch.export.load(sys.argv[1]).module()
torch.save([network(images[:count]) for count in (1, 3)], sys.argv[3])
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    make_bundles(folder)
    return folder


@pytest.mark.parametrize("name", ["tiny_screening", "crane"])
def test_pt2_runs_without_this_package(name: str, bundles: Path, tmp_path: Path) -> None:
    network, released = bundle_network(bundles / name)
    sources = {part: "seed:0" for part in released}
    load_weights(network, sources, released)
    file, difference = export(bundles / name, "pt2", tmp_path / "network.pt2", sources)
    assert difference < 1e-4
    side = network.image_size
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    torch.save(images, tmp_path / "images.pt")
    files = [str(file), str(tmp_path / "images.pt"), str(tmp_path / "maps.pt")]
    subprocess.run([sys.executable, "-c", ALONE, *files], check=True, cwd=tmp_path)
    one, three = torch.load(tmp_path / "maps.pt")
    with torch.no_grad():
        torch.testing.assert_close(one, network(images[:1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(three, network(images), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["torchscript", "onnx", "openvino"])
def test_other_formats(kind: str, bundles: Path, tmp_path: Path) -> None:
    for package in {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}.get(kind, ()):
        pytest.importorskip(package)
    target = tmp_path / f"network{FORMATS[kind]}"
    result = invoke(
        "export", str(bundles / "tiny_screening"), "--format", kind, "-o", str(target), "-w", "model=seed:0"
    )
    assert result.exit_code == 0, result.output
    assert target.is_file()
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_a_file_is_not_replaced_without_a_word(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.pt2").write_bytes(b"mine")
    with pytest.raises(OutputError, match="--overwrite"):
        export(bundles / "tiny_screening", "pt2", tmp_path / "kept.pt2")
    with pytest.raises(OutputError, match=r"ends in \.pt2"):
        export(bundles / "tiny_screening", "pt2", tmp_path / "network.onnx")
    with pytest.raises(ConfigurationError, match="torchscript"):
        export(bundles / "tiny_screening", "tensorflow")


def test_what_cannot_be_exported_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        write_network(anoclip(adaptation={"steps": 1}), "pt2", tmp_path / "network.pt2")
    assert not list(tmp_path.iterdir())
