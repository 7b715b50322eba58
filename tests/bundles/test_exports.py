"""MONAI's export commands on every bundle, as its README gives them, at a small size with seeded weights."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fire
import monai.bundle
import monai.bundle.scripts
import numpy as np
import pytest
import torch

from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.workflow.bundles import build_network, load_weights, released_weights
from tests.bundles.runs import BUNDLES, ROOT, parser_of, small

# Largest difference of map or score from PyTorch's; measured 1.2e-5, of AnoCLIP, whose contrast enlarges rounding.
BOUND = 1e-4
COMMANDS = ("onnx_export", "ckpt_export", "trt_export")


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda folder: folder.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def network(bundle: Path) -> ZeroShotNetwork:
    parser = parser_of(bundle, **small(bundle))
    network = build_network(parser, bundle)
    released = released_weights(parser)
    load_weights(network, dict.fromkeys(released, "seed:0"), released)
    return network


@pytest.fixture(scope="module")
def checkpoint(network: ZeroShotNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``python -m monai_zsad convert`` writes."""
    file = tmp_path_factory.mktemp("converted") / "model.pt"
    torch.save(network.portable_state_dict(), file)
    return file


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MONAI's exports leave the generators seeded; and the commands name the bundle from the checkout's folder."""
    monkeypatch.chdir(ROOT.parent)
    with torch.random.fork_rng():
        yield


def documented(bundle: Path, command: str) -> list[str]:
    """The command of the bundle's README, or of Crane's with this bundle in its place, without ``python -m``."""
    text = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    if f"monai.bundle {command}" not in text:
        (shape,) = re.findall(r"the input shape `(.*?)`", text)
        text = (ROOT / "crane" / "docs" / "README.md").read_text(encoding="utf-8").replace("crane", bundle.name)
        text = text.replace("[2,1,518,518]", shape)
    (line,) = re.findall(rf"^python -m monai\.bundle ({command} .*)$", text.replace("\\\n", " "), re.MULTILINE)
    return shlex.split(line)


def export(bundle: Path, command: str, checkpoint: Path, target: Path) -> None:
    """Run the documented command, only smaller."""
    words = documented(bundle, command)
    size, channels = small(bundle)["image_size"], 3 if bundle.name == "tiny_screening" else 1
    for option, value in (("filepath", target), ("ckpt_file", checkpoint)):
        words[words.index(f"--{option}") + 1] = str(value)
    if "--input_shape" in words:
        place = words.index("--input_shape") + 1
        batch, *sides = words[place].strip("[]").split(",")
        assert [int(side) for side in sides] == [channels, *[parser_of(bundle)["image_size"]] * 2]
        words[place] = f"[{batch},{channels},{size},{size}]"
    small_options: dict[str, Any] = {
        **small(bundle),
        "_meta_#network_data_format#inputs#image#spatial_shape": [size] * 2,
    }
    words += [f"--{key}={value}" for key, value in small_options.items()]
    fire.Fire({command: getattr(monai.bundle.scripts, command)}, words)


def pictures(bundle: Path, batch: int) -> torch.Tensor:
    size, channels = small(bundle)["image_size"], 3 if bundle.name == "tiny_screening" else 1
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(batch))


def test_onnx_export(bundle: Path, network: ZeroShotNetwork, checkpoint: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    target = tmp_path / "network.onnx"
    export(bundle, "onnx_export", checkpoint, target)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        with torch.no_grad():
            expected = network(pictures(bundle, batch)).numpy()
        (found,) = session.run(None, {"image": pictures(bundle, batch).numpy()})
        np.testing.assert_allclose(found, expected, atol=BOUND, rtol=0)


def test_ckpt_export(bundle: Path, network: ZeroShotNetwork, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "network.ts"
    export(bundle, "ckpt_export", checkpoint, target)
    files = {"metadata.json": "", "inference.json": ""}
    loaded = torch.jit.load(target, _extra_files=files)
    assert all(files.values())
    for batch in (1, 3):
        with torch.no_grad():
            expected, found = network(pictures(bundle, batch)), loaded(pictures(bundle, batch))
        torch.testing.assert_close(found, expected, atol=BOUND, rtol=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what it says without a GPU")
def test_trt_export_gets_as_far_as_asking_for_a_gpu(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="Cannot find any GPU devices"):
        export(bundle, "trt_export", checkpoint, tmp_path / "network.ts")


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_commands_name_their_bundle(bundle: Path, command: str) -> None:
    words = documented(bundle, command)
    for option in ("config_file", "meta_file"):
        assert Path(words[words.index(f"--{option}") + 1]).is_file()
