"""The GPU gives the results of the CPU. These tests are skipped without a GPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.inferers.sliding_windows import SliceRunner
from monai_zsad.networks import ZeroShotNetwork
from tests.bundles.runs import BUNDLES, run_small
from tests.bundles.training_runs import train
from tests.conftest import shared_folder
from tests.data.labelled import make_mvtec
from tests.data.samples import write_nifti
from tests.networks.test_golden import FILES, uncertainty
from tests.networks.zoo import BFLOAT16_BOUND, IMAGE_SIZE, NETWORKS, rounding
from tests.parity import bound_of, compare

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

MIB = 2**20


def slices(batch: int = 3, size: int = IMAGE_SIZE) -> torch.Tensor:
    return torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name: str) -> ZeroShotNetwork:
    return NETWORKS[name]()


@pytest.mark.parametrize("name", FILES or ["none"])
def test_golden(shared: Path, name: str) -> None:
    """The bounds are those of the CPU. Convolutions in TF32, the GPU default of PyTorch, would exceed them by far."""
    file = shared_folder() / "golden" / name
    errors = compare(shared / "golden" / name, device="cuda")
    bounds = {array: bound_of(array) + uncertainty(file, array) for array in errors}
    assert errors
    assert {array: error for array, error in errors.items() if error > bounds[array]} == {}


def test_as_on_the_cpu(name: str, network: ZeroShotNetwork) -> None:
    with torch.no_grad():
        here = network(slices())
        there = copy.deepcopy(network).cuda()(slices().cuda())
    assert there.device.type == "cuda"
    assert there.dtype == torch.float32
    torch.testing.assert_close(there.cpu(), here, atol=5 * rounding(name), rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["set_precision", "autocast"])
def test_half_precision(name: str, network: ZeroShotNetwork, how: str, dtype: torch.dtype) -> None:
    low = copy.deepcopy(network).cuda()
    batch = slices().cuda()
    with torch.no_grad():
        exact = low(batch)
        if how == "autocast":
            with torch.autocast("cuda", dtype):
                found = low(batch)
        else:
            low.set_precision(dtype)
            found = low(batch)
    assert found.dtype == torch.float32
    # AnoCLIP's temperature of 0.01 amplifies the rounding errors of the features.
    factor = 25 if name.startswith("anoclip") else 1
    assert 0 < (found - exact).abs().max() < factor * BFLOAT16_BOUND


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A GPU with 200 MiB of free memory; the allocator really fails beyond this limit."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 200 * MIB) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def hungry(batch: torch.Tensor) -> torch.Tensor:
    """Use 60 MiB for each slice."""
    waste = torch.empty(len(batch), 60 * MIB, dtype=torch.uint8, device=batch.device)
    maps = batch[:, :1].sigmoid() + 0 * waste[0, 0]
    return torch.cat([maps, maps.amax((2, 3), keepdim=True).expand_as(maps)], dim=1)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("window", [None, (24, 24)])
def test_a_batch_that_does_not_fit_is_halved(window: tuple[int, int] | None, caplog: pytest.LogCaptureFixture) -> None:
    batch = slices(7).cuda()
    with torch.no_grad():
        expected = SliceRunner(hungry, batch_size=1, device_type="cuda")(batch, window)
        found = SliceRunner(hungry, batch_size=8, device_type="cuda")(batch, window)
    assert "out of memory with" in caplog.text
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


INFERERS: dict[str, dict[str, Any]] = {
    "windows": {"roi_size": (32, 32)},
    "token spacing": {"token_spacing_mm": 4.0},
    "planes": {"planes": ("axial", "coronal"), "fusion": "max"},
    "thinned": {"slice_spacing_mm": 6.0},
    "smoothed": {"smooth_slices_mm": 2.0},
    "context": {"context_mm": 3.0},  # between slices that are 2.5 mm apart
}


@pytest.mark.parametrize("where", ["all on the GPU", "network on the GPU", "result on the CPU"])
@pytest.mark.parametrize("options", INFERERS.values(), ids=INFERERS)
def test_volumes(options: dict[str, Any], where: str) -> None:
    network = NETWORKS["crane"]()
    values = torch.rand(1, 1, 40, 48, 9, generator=torch.Generator().manual_seed(3))
    values[..., 4] = 0  # a slice that is not run
    volume = MetaTensor(values, affine=torch.diag(torch.tensor([1.0, 1.0, 2.5, 1.0])))
    with torch.no_grad():
        here = VolumeSliceInferer(batch_size=2, **options)(volume, network)
        inferer = VolumeSliceInferer(
            batch_size=2, device="cuda", output_device="cpu" if where == "result on the CPU" else None, **options
        )
        there = inferer(volume if where == "network on the GPU" else volume.cuda(), network.cuda())
    assert there.device.type == ("cuda" if where == "all on the GPU" else "cpu")
    np.testing.assert_allclose(there.cpu().numpy(), here.numpy(), atol=1e-5)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda folder: folder.name)
def test_bundles_write_the_same_map(bundle: Path, tmp_path: Path) -> None:
    # Slices 2 mm apart: neighbours 3 mm away lie between them.
    write_nifti(tmp_path / "in" / "scan.nii.gz", (40, 36, 5), affine=np.diag([1.0, 1.5, 2.0, 1.0]))
    maps = []
    for device in ("cpu", "cuda"):
        run_small(bundle, tmp_path / "in", tmp_path / device, device=device)
        (file,) = (tmp_path / device).rglob("anomaly.nii.gz")
        maps.append(nibabel.load(file).get_fdata(dtype=np.float32))
    assert maps[0].std() > 0
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-3)


def test_deterministic_runs_write_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    write_nifti(tmp_path / "in" / "scan.nii.gz", (40, 36, 5))
    (bundle,) = (folder for folder in BUNDLES if folder.name == "tiny_screening")
    files = []
    for run in ("one", "two"):
        run_small(bundle, tmp_path / "in", tmp_path / run, device="cuda", deterministic=True)
        (file,) = (tmp_path / run).rglob("anomaly.nii.gz")
        files.append(nibabel.load(file).get_fdata())
    np.testing.assert_array_equal(*files)


@pytest.mark.parametrize(
    ("bundle", "options", "file"),
    [
        ("crane", {}, "epoch_1.pth"),
        ("aaclip", {"stage": 1}, "text_adapter.pth"),
        ("aaclip", {"stage": 2, "weights#text_adapter": "seed:1"}, "image_adapter_1.pth"),
    ],
    ids=["crane", "aaclip_text", "aaclip_image"],
)
def test_training(bundle: str, options: dict[str, Any], file: str, tmp_path: Path) -> None:
    """A training step on the GPU has the same result as a step on the CPU."""
    data = make_mvtec(tmp_path / "data", ("bolt",), 4)
    learned = []
    for device in ("cpu", "cuda"):
        # Adam divides by the size of the gradient. With its default eps, a gradient that is only a rounding error would
        # cause a full step.
        settings = {"max_epochs": 1, "validation_fraction": 0.5, "eps": 1e-4, "device": device, **options}
        train(bundle, data, tmp_path / device, **settings)
        content = torch.load(tmp_path / device / file, map_location="cpu", weights_only=True)
        learned.append(next(content[part] for part in content if isinstance(content[part], dict)))
    for key, value in learned[0].items():
        torch.testing.assert_close(learned[1][key], value, atol=1e-4, rtol=0)
