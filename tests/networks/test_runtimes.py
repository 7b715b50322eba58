from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.networks import ONNXNetwork, OpenVINONetwork, check_runtime, with_runtime
from monai_zsad.networks.runtimes.export_cache import export_folder, export_key, exported_file
from tests.conftest import ROOT
from tests.networks.small import SIZE, small_network
from tests.networks.test_contract import slices
from tests.networks.zoo import BFLOAT16_BOUND, IMAGE_SIZE, NETWORKS, anoclip, crane, rounding

for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(package)


def screening() -> Any:
    network = small_network()
    network.load_weights(model="seed:0")
    return network


MADE: dict[str, Callable[[], Any]] = {**NETWORKS, "screening": screening}
CASES = [("crane", "openvino"), ("screening", "onnx")]
SLOW = [
    ("crane", "onnx"),
    ("crane_plus", "openvino"),
    ("aaclip", "onnx"),
    ("anoclip", "onnx"),
    ("screening", "openvino"),
]


@pytest.mark.parametrize(("name", "runtime"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_the_same_maps_at_any_size_and_batch_and_with_any_words(name: str, runtime: Any) -> None:
    network = MADE[name]()
    exported = with_runtime(network, runtime)
    assert isinstance(exported, ONNXNetwork if runtime == "onnx" else OpenVINONetwork)
    assert (exported.image_size, exported.patch_size) == (network.image_size, network.patch_size)
    channels = 3 if name == "screening" else 1
    bound = 3 * rounding("anoclip" if name == "screening" else name)
    with torch.no_grad():
        for batch in (slices(3, channels=channels), slices(1, 40, channels), slices(2, 70, channels=3)):
            torch.testing.assert_close(exported(batch), network(batch), atol=bound, rtol=0)
        before = exported(batch)
        # As a scan of another modality does.
        network.text_anchors = network.text_anchors.flip(1)
        torch.testing.assert_close(exported(batch), network(batch), atol=bound, rtol=0)
        assert (exported(batch) - before).abs().max() > 1e-3
    assert (network.describe()["runtime"], network.describe()["precision"]) == (runtime, "float32")


def test_an_export_is_made_once_and_again_where_it_is_damaged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "monai_zsad")

    def exports() -> int:
        caplog.clear()
        with_runtime(crane(), "openvino")
        return sum("exporting" in record.message for record in caplog.records)

    exports()
    folder = export_folder() / export_key(crane(), "openvino")
    assert not [path for path in export_folder().iterdir() if path.name.startswith(".")]
    assert exports() == 0
    weights = folder / "network.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert exports() == 1
    assert exports() == 0


def test_of_an_export_above_the_bound_only_the_difference_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path / "weights"))
    made = []

    def write(network: Any, runtime: str, target: Path) -> None:
        made.append(runtime)
        target.write_text("network")

    monkeypatch.setattr("monai_zsad.networks.runtimes.export_cache.write_with_anchors", write)
    network = crane()
    for _ in range(2):
        file, difference = exported_file(network, "openvino", lambda file: 1e-4, 1e-5)
        assert difference == 1e-4
        assert not file.exists()
    assert len(made) == 1
    # Who asks for OpenVINO gets it.
    file, difference = exported_file(network, "openvino", lambda file: 1e-4)
    assert (file.exists(), difference, len(made)) == (True, 1e-4, 2)


def test_the_exports_that_were_used_last_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The files are not opened here, so that they can be anything of one size."""

    def write(network: Any, runtime: str, target: Path) -> None:
        target.write_text("network")
        target.with_suffix(".bin").write_bytes(bytes(1000))

    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("monai_zsad.networks.runtimes.export_cache.write_with_anchors", write)
    monkeypatch.setattr("monai_zsad.networks.runtimes.export_cache._KEPT_BYTES", 3000)
    networks = {sigma: crane(sigma=sigma) for sigma in (2.0, 3.0, 4.0)}
    folders = {sigma: export_folder() / export_key(network, "openvino") for sigma, network in networks.items()}

    def use(sigma: float, hours_ago: float) -> None:
        file, difference = exported_file(networks[sigma], "openvino", lambda file: 0.0)
        assert (file, difference) == (folders[sigma] / "network.xml", 0.0)
        assert file.read_text() == "network"
        used = time.time() - 3600 * hours_ago
        os.utime(folders[sigma] / "export.json", (used, used))

    use(2.0, 5)
    use(3.0, 4)
    use(2.0, 3)  # made before 3.0, but used after it
    use(4.0, 0)
    assert [folder.exists() for folder in folders.values()] == [True, False, True]
    # A network of the last hour may be in use by another process.
    use(2.0, 0.5)
    use(3.0, 0)
    assert all(folder.exists() for folder in folders.values())


def test_what_decides_the_result_decides_the_name() -> None:
    weights = crane()
    with torch.no_grad():
        weights.clip.visual.conv1.weight[0, 0, 0, 0] += 1e-3
    networks = [crane(), weights, crane(average="logits"), crane(sigma=2.0), crane(attention="vv"), anoclip()]
    keys = [export_key(network, runtime) for network in networks for runtime in ("onnx", "openvino")]
    assert len(set(keys)) == len(keys)
    # Words are an input of what is exported; how it was run last is no part of it.
    words = crane()
    words.text_anchors = words.text_anchors.flip(1)
    words.runtime, words.fixed_anchors = "openvino", True
    assert export_key(words, "onnx") == keys[0]


def test_openvino_in_bfloat16() -> None:
    network = crane()
    with torch.no_grad():
        expected = network(slices())
    found = with_runtime(network, "openvino", "bfloat16")(slices())
    assert (found - expected).abs().max() < BFLOAT16_BOUND
    assert network.describe()["runtime"] == "openvino"
    assert network.describe()["precision"] == "bfloat16"


def test_auto_takes_openvino() -> None:
    network = crane()
    with torch.no_grad():
        expected = network(slices())
    found: Any = with_runtime(network, "auto")
    assert isinstance(found, OpenVINONetwork)
    assert 0 <= found.difference <= 1e-5
    torch.testing.assert_close(found(slices()), expected, atol=1e-5, rtol=0)
    # The second time, the difference is read from the record of the export.
    assert with_runtime(network, "auto").difference == found.difference
    fast: Any = with_runtime(crane(), "auto", "bfloat16")
    assert fast.network.describe()["precision"] == "bfloat16"


@pytest.mark.parametrize("reason", ["not installed", "not exact", "adaptation", "image-conditioned", "amp", "damaged"])
def test_auto_takes_pytorch_where_openvino_cannot_be_used(
    reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "monai_zsad")
    network: Any = crane(image_conditioned=True) if reason == "image-conditioned" else crane()
    if reason == "adaptation":
        network = anoclip(adaptation={"steps": 1})
    with torch.no_grad():
        expected: Any = network(slices()) if reason != "adaptation" else None
    if reason == "not installed":
        own = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else own(name))
    if reason == "not exact":
        exported = (Path("of_no_use.xml"), 1.1e-5)
        monkeypatch.setattr("monai_zsad.networks.runtimes.networks.exported_file", lambda *args: exported)
    if reason == "damaged":
        monkeypatch.setattr("monai_zsad.networks.runtimes.networks._BOUND", -1.0)
        monkeypatch.setattr("monai_zsad.networks.runtimes.export_cache._VERSION", 0)
    chosen: Any = with_runtime(network, "auto", amp=reason == "amp")
    assert chosen is network
    assert network.describe()["runtime"] == "torch"
    if expected is not None:
        with torch.no_grad():
            torch.testing.assert_close(network(slices()), expected, atol=rounding("crane"), rtol=0)
    if reason != "amp":
        assert "PyTorch runs the network" in caplog.text
    if reason == "not installed":
        assert "pip install 'monai-zsad[openvino]'" in caplog.text
    if reason == "not exact":
        assert "1.1e-05" in caplog.text


def test_torch_sets_the_precision() -> None:
    network: Any = with_runtime(crane(), "torch", "bfloat16")
    assert network.clip.vision_dtype == torch.bfloat16
    assert (network.describe()["runtime"], network.describe()["precision"]) == ("torch", "bfloat16")
    assert network.text_anchors.dtype == torch.float32


def test_a_volume_whose_last_batch_is_smaller() -> None:
    network = crane()
    volume = torch.rand(1, 1, 30, 30, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = VolumeSliceInferer(batch_size=1)(volume, network)
        found = VolumeSliceInferer(batch_size=3)(volume, with_runtime(network, "openvino"))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


MEMORY = """
import resource, psutil, torch
from monai_zsad.networks import with_runtime
from tests.networks.zoo import crane
exported = with_runtime(crane(), "onnx")
slices = torch.rand(512, 1, 56, 56)
exported(slices[:1])
limit = psutil.Process().memory_info().vms + 80 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    exported(slices)
except MemoryError:
    print("MemoryError")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory cannot be limited there")
def test_a_batch_that_does_not_fit_is_told_as_inferers_know_it() -> None:
    """Who then halves the batch: tests/inferers/test_memory.py."""
    ended = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, timeout=500, capture_output=True, text=True)
    assert "MemoryError" in ended.stdout


# ---- files that the user gives -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What MONAI's ``onnx_export`` makes of the network: one channel, fixed text anchors."""
    target = tmp_path_factory.mktemp("given") / "crane.onnx"
    torch.onnx.export(
        crane(), (slices(2),), target, dynamo=True, external_data=False, verbose=False, dynamic_shapes=({0: "batch"},)
    )
    return target


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_given_file_is_run(runtime: Any, file: Path) -> None:
    network = crane()
    exported = with_runtime(network, runtime, file=file)
    with torch.no_grad():
        for batch in (slices(3), slices(1, 40)):
            torch.testing.assert_close(exported(batch), network(batch), atol=3 * rounding("crane"), rtol=0)
    assert network.fixed_anchors
    assert len(network.describe()["runtime_file"]) == 64
    assert crane().describe().keys() == network.describe().keys() - {"runtime_file"}


def test_a_file_of_other_weights_or_words_is_refused(file: Path) -> None:
    network = crane()
    network.text_anchors = network.text_anchors.flip(1)
    with pytest.raises(ConfigurationError, match="export it again"):
        with_runtime(network, "onnx", file=file)


def test_files_that_cannot_be_used(file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(file.read_bytes()[:1000])
    for wrong, error, message in (
        (tmp_path / "no.onnx", InputError, r"no\.onnx does not exist"),
        (tmp_path / "network.ts", ConfigurationError, r"runtime onnx reads \.onnx files"),
        (damaged, InputError, r"damaged\.onnx cannot be opened by onnxruntime"),
    ):
        with pytest.raises(error, match=message):
            with_runtime(crane(), "onnx", file=wrong)
    fixed = tmp_path / "fixed.onnx"
    torch.onnx.export(crane(), (slices(1),), fixed, dynamo=True, external_data=False, verbose=False)
    with pytest.raises(ConfigurationError, match=rf"takes \[1, 1, {IMAGE_SIZE}, .* with any batch"):
        with_runtime(crane(), "onnx", file=fixed)
    with pytest.raises(ConfigurationError, match=rf"{SIZE}, {SIZE}\]"):
        with_runtime(screening(), "openvino", file=file)


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tensorrt", "float32", "cpu"), "runtime='tensorrt' is unknown"),
        (("torch", "int8", "cpu"), "precision='int8'"),
        (("openvino", "int8", "cpu"), "precision='int8'"),
        (("openvino", "float32", "cuda"), "add --device cpu"),
        (("onnx", "float32", "cuda:0"), "add --device cpu"),
        (("onnx", "bfloat16", "cpu"), "runtime openvino"),
        (("openvino", "float32", "cpu", True), "amp=true needs runtime torch"),
        (("onnx", "float32", "cpu", "True"), "amp=true needs runtime torch"),
        (("torch", "float32", "cpu", False, "a.onnx"), "is for runtime onnx or openvino"),
        (("torch", "float32", "gpu"), "is not a device"),
    ],
)
def test_bad_choices(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_runtime(*arguments)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_what_computes_at_run_time_is_refused(runtime: Any) -> None:
    with pytest.raises(ConfigurationError, match="text tower"):
        with_runtime(crane(image_conditioned=True), runtime)
    with pytest.raises(ConfigurationError, match="leave out adaptation"):
        with_runtime(anoclip(adaptation={"steps": 1}), runtime)


@pytest.mark.parametrize(("runtime", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_runtime_that_is_not_installed(runtime: str, package: str) -> None:
    program = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *a: None if name == {package!r} else found(name, *a)\n"
        "from monai_zsad.networks import check_runtime\n"
        f"check_runtime({runtime!r}, 'float32', 'cpu')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"needs the package {package}: pip install 'monai-zsad[" in ended.stderr
    assert importlib.util.find_spec(package) is not None


@pytest.mark.slow
def test_openvino_leaves_the_process_a_stack_for_its_signals(tmp_path: Path) -> None:
    """Networks come and go in any order; then a child ends, of which a signal tells, as at the end of every loader."""
    program = """
import gc, signal, subprocess
from monai_zsad.networks import with_runtime
from tests.networks.test_runtimes import screening

kept = [with_runtime(screening(), "openvino") for _ in range(2)]
del kept[0]
gc.collect()
kept.clear()
gc.collect()
heard = []
signal.signal(signal.SIGCHLD, lambda *_: heard.append(1))
subprocess.run(["true"], check=True)
assert heard
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MONAI_ZSAD_WEIGHTS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
