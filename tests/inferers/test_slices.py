from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.inferers import SliceInferer, SlidingWindowInferer
from monai.transforms import Compose, CropForegroundd, EnsureChannelFirstd, Invertd, Orientationd, Spacingd, SpatialPadd
from scipy.ndimage import maximum_filter, minimum_filter

from monai_zsad.errors import ConfigurationError
from monai_zsad.inferers import PLANES, VolumeSliceInferer
from tests.inferers.toy import Brightness, Textured

ALL_PLANES = tuple(PLANES)


def bright(*shape: int, seed: int = 0) -> torch.Tensor:
    """A volume without an empty slice."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.1


@st.composite
def affines(draw, isotropic: bool) -> np.ndarray:
    """Any order and direction of the axes, turned by up to some degrees, with any spacing and place."""
    spacing = st.floats(0.4, 3.0, allow_nan=False)
    scale = [draw(spacing)] * 3 if isotropic else [draw(spacing) for _ in range(3)]
    signs = [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    axes = np.eye(3)[:, draw(st.sampled_from(list(permutations(range(3)))))] * signs
    turn = np.eye(3)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        angle = np.deg2rad(draw(st.floats(-12, 12)))
        step = np.eye(3)
        step[[first, second], [first, second]] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes @ np.diag(scale)
    affine[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return affine


shapes = st.tuples(*[st.integers(1, 9)] * 3)
some_planes = st.lists(st.sampled_from(ALL_PLANES), min_size=1, max_size=3, unique=True)


class TestGeometry:
    @settings(max_examples=60, deadline=None)
    @given(
        affine=affines(isotropic=True), shape=shapes, planes=st.none() | some_planes, channels=st.sampled_from([1, 3])
    )
    def test_identity_is_exact_where_nothing_is_resampled(self, affine, shape, planes, channels):
        volume = bright(2, 1, *shape).expand(-1, channels, *shape)
        inputs = MetaTensor(volume.clone(), affine=torch.from_numpy(affine))
        result: Any = VolumeSliceInferer(batch_size=3, planes=planes, fusion="max")(
            inputs, lambda x: x[:, :1].repeat(1, 2, 1, 1)
        )
        assert isinstance(result, MetaTensor)
        assert torch.equal(result.as_tensor()[:, 0], volume[:, 0])
        assert torch.equal(result.affine, inputs.affine)

    @settings(max_examples=80, deadline=None)
    @given(affine=affines(isotropic=False), shape=shapes, planes=some_planes, fusion=st.sampled_from(["mean", "max"]))
    def test_identity_is_within_one_interpolation_elsewhere(self, affine, shape, planes, fusion):
        # Up and down again, a value is mixed with its direct neighbours alone, whatever the ratio of the spacings.
        inputs = MetaTensor(bright(1, 1, *shape), affine=torch.from_numpy(affine))
        result: Any = VolumeSliceInferer(planes=planes, fusion=fusion)(inputs, Brightness())
        volume, found = inputs.numpy()[0, 0], result.numpy()[0, 0]
        assert found.shape == shape
        assert (found <= maximum_filter(volume, 3) + 1e-5).all()
        assert (found >= minimum_filter(volume, 3) - 1e-5).all()
        assert torch.equal(result.affine, inputs.affine)

    @settings(max_examples=25, deadline=None)
    @given(affine=affines(isotropic=False), planes=some_planes)
    def test_smooth_field_comes_back_close(self, affine, planes):
        x, y, z = (torch.linspace(0, 1, n) for n in (16, 18, 20))
        field = 0.2 + 0.3 * torch.sin(3 * x)[:, None, None] * torch.cos(2 * y)[:, None] + 0.5 * z**2
        inputs = MetaTensor(field[None, None], affine=torch.from_numpy(affine))
        result: Any = VolumeSliceInferer(planes=planes)(inputs, Brightness())
        error = (result.as_tensor()[0, 0] - field).abs()
        assert error[1:-1, 1:-1, 1:-1].max() < 3.5e-3  # a quarter of the largest second difference
        assert error.max() < 0.03

    def test_network_sees_the_patient_upright(self):
        # Stored as (S, R, P): the corner that is anterior, right and superior.
        volume = torch.full((1, 1, 8, 8, 8), 0.5)
        volume[0, 0, 7, 7, 0] = 1
        affine = torch.tensor([[0.0, 1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
        inputs = MetaTensor(volume, affine=affine)
        for name in PLANES:
            network = Brightness()
            VolumeSliceInferer(planes=name)(inputs, network)
            marks = (torch.cat(network.seen) == 1).nonzero()
            assert marks[0, 2:].tolist() == [0, 0], f"{name}: the mark belongs to the top left"

    def test_each_volume_of_a_batch_has_its_own_affine(self):
        volumes = bright(2, 1, 6, 6, 6)
        inputs = MetaTensor(volumes, affine=torch.eye(4))
        inputs.meta["affine"] = torch.stack([torch.eye(4), torch.eye(4)[[1, 0, 2, 3]]]).double()
        network = Brightness()
        VolumeSliceInferer(batch_size=6, planes="sagittal")(inputs, network)
        first, second = network.seen
        assert torch.equal(first[:, 0], volumes[0, 0].permute(0, 2, 1).flip(1, 2))
        assert torch.equal(second[:, 0], volumes[1, 0].permute(1, 2, 0).flip(1, 2))


class TestSkipping:
    def test_only_slices_with_enough_foreground_reach_the_network(self):
        volume = torch.zeros(1, 3, 10, 10, 6)
        volume[0, 2, 0, 0, 1] = 0.9  # one pixel, one channel: exactly the fraction
        volume[0, 0, :5, :, 3] = 0.4
        volume[0, 0, :, :, 4] = 0.05  # below the threshold
        network = Brightness()
        result = VolumeSliceInferer(foreground_threshold=0.1, min_foreground=0.01)(volume, network)
        assert network.count == 2
        assert result[0, :, :, :, [0, 2, 4, 5]].abs().max() == 0
        assert torch.allclose(result[0, 1, 0, 0], torch.tensor([0, 0.9, 0, 0.4, 0, 0]))
        stricter = Brightness()
        VolumeSliceInferer(foreground_threshold=0.1, min_foreground=0.02)(volume, stricter)
        assert stricter.count == 1

    def test_empty_volume_never_reaches_the_network(self):
        network = Brightness()
        result = VolumeSliceInferer(planes=ALL_PLANES, smooth_slices_mm=3.0)(torch.zeros(1, 1, 5, 6, 7), network)
        assert network.calls == 0
        assert result.shape == (1, 2, 5, 6, 7)
        assert not result.any()

    def test_zero_fraction_runs_everything(self):
        network = Brightness()
        VolumeSliceInferer(min_foreground=0, roi_size=4, overlap=0)(torch.zeros(1, 1, 8, 8, 3), network)
        assert network.count == 12


class TestBatches:
    def test_result_does_not_depend_on_the_batch(self):
        volume = bright(1, 1, 12, 12, 7)
        network = Textured().eval()
        with torch.no_grad():
            alone = VolumeSliceInferer(batch_size=1)(volume, network)
            for batch_size in (2, 4, 7, 50):
                assert torch.allclose(VolumeSliceInferer(batch_size=batch_size)(volume, network), alone, atol=1e-6)

    def test_batches_are_no_larger_than_asked(self):
        network = Brightness()
        VolumeSliceInferer(batch_size=3)(bright(2, 1, 5, 5, 8), network)
        assert [len(batch) for batch in network.seen] == [3, 3, 2, 3, 3, 2]

    def test_two_calls_are_equal_and_inputs_untouched(self):
        volume = bright(1, 3, 9, 8, 7)
        kept = volume.clone()

        def scribble(slices):
            result = slices[:, :2].clone()
            slices.zero_()
            return result

        inferer = VolumeSliceInferer(planes=("axial", "sagittal"), smooth_slices_mm=1.0)
        assert torch.equal(inferer(volume, scribble), inferer(volume, scribble))
        assert torch.equal(volume, kept)

    def test_out_of_memory_halves_the_batch(self):
        sizes = []

        def network(slices):
            sizes.append(len(slices))
            if len(slices) > 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return slices.repeat(1, 2, 1, 1)

        volume = bright(1, 1, 6, 6, 12)
        result = VolumeSliceInferer(batch_size=8)(volume, network)
        assert torch.equal(result[:, :1], volume)
        assert sizes == [8, 4, 2, 2, 2, 2, 2, 2]


class TestFusionAndScores:
    @pytest.mark.parametrize("fusion", ["mean", "max"])
    def test_maps_are_fused_voxel_by_voxel(self, fusion):
        volume = bright(1, 1, 7, 7, 7)
        network = Textured()
        with torch.no_grad():
            single = [VolumeSliceInferer(planes=name)(volume, network)[:, 0] for name in ALL_PLANES]
            fused = VolumeSliceInferer(planes=ALL_PLANES, fusion=fusion)(volume, network)
        stacked = torch.stack(single)
        expected = stacked.mean(0) if fusion == "mean" else stacked.amax(0)
        assert torch.allclose(fused[:, 0], expected, atol=1e-6)
        assert not torch.allclose(stacked[0], stacked[1], atol=1e-2)

    def test_score_is_that_of_the_slices_along_the_last_axis(self):
        volume = bright(1, 1, 6, 7, 8)
        result = VolumeSliceInferer(planes=("coronal", "axial"))(volume, Brightness())
        assert torch.equal(result[:, 1], volume.amax((1, 2, 3), keepdim=True)[:, 0].expand(1, 6, 7, 8))

    def test_without_such_slices_the_fused_map_stands_in(self):
        volume = bright(1, 1, 6, 7, 8)
        with torch.no_grad():
            result = VolumeSliceInferer(planes=("coronal", "sagittal"))(volume, Textured())
        assert torch.equal(result[:, 1], result[:, 0].amax((1, 2), keepdim=True).expand(1, 6, 7, 8))

    def test_smoothing_is_in_mm_and_before_fusion(self):
        volume = torch.full((1, 1, 5, 5, 15), 0.1)
        volume[..., 7] = 1.0
        inputs = MetaTensor(volume, affine=torch.diag(torch.tensor([-1.0, -1, 5, 1])))
        result = VolumeSliceInferer(smooth_slices_mm=5.0)(inputs, Brightness())
        line = result[0, 0, 2, 2].numpy()
        assert line[7] == pytest.approx(0.1 + 0.9 * 0.383, abs=0.01)
        assert line[6] == pytest.approx(line[8], abs=1e-6)
        assert line[0] == pytest.approx(0.1, abs=1e-3)
        assert result[0, 1, 0, 0, 7] == 1, "scores are not smoothed"
        across = VolumeSliceInferer(planes="coronal", smooth_slices_mm=5.0)(inputs, Brightness())
        assert torch.allclose(across[:, 0], inputs.as_tensor()[:, 0], atol=1e-2)


class TestWindows:
    def test_identity_through_windows(self):
        inputs = MetaTensor(bright(1, 1, 24, 30, 4), affine=torch.eye(4))
        for planes in (None, "axial", ALL_PLANES):
            result: Any = VolumeSliceInferer(planes=planes, roi_size=(10, 12), fusion="max")(inputs, Brightness())
            assert torch.allclose(result.as_tensor()[:, :1], inputs.as_tensor(), atol=1e-5)

    def test_token_spacing_sets_the_window_and_is_told(self):
        # 4 tokens across the input of 32 pixels; wanted 5 mm: windows of 20 mm = 10 rows of 2 mm, 20 columns of 1 mm.
        inputs = MetaTensor(bright(1, 1, 30, 50, 2), affine=torch.diag(torch.tensor([2.0, 1, 1, 1])))
        network = Brightness(image_size=32, patch_size=8)
        inferer = VolumeSliceInferer(token_spacing_mm=5.0)
        inferer(inputs, network)
        assert {tuple(batch.shape[2:]) for batch in network.seen} == {(10, 20)}
        assert inferer.token_distance_mm(inputs, network) == {"axial": pytest.approx(5.0)}
        assert VolumeSliceInferer().token_distance_mm(inputs, network) == {"axial": pytest.approx(60 / 4)}
        axial = VolumeSliceInferer(planes=ALL_PLANES, token_spacing_mm=5.0)
        assert axial.token_distance_mm(inputs, network) == {name: pytest.approx(5.0) for name in PLANES}

    def test_window_as_large_as_the_slice_is_the_whole_slice(self):
        volume = bright(1, 1, 20, 20, 3)
        network = Brightness()
        result = VolumeSliceInferer(token_spacing_mm=50.0, batch_size=4)(volume, network)
        assert [tuple(batch.shape) for batch in network.seen] == [(3, 1, 20, 20)]
        assert torch.equal(result[:, :1], volume)

    def test_score_is_the_maximum_of_the_blended_scores_at_every_voxel(self):
        volume = torch.full((1, 1, 20, 20, 2), 0.2)
        volume[0, 0, 19, 19, 1] = 0.8
        result = VolumeSliceInferer(roi_size=10, overlap=0)(volume, Brightness())
        assert torch.allclose(result[0, 1, :, :, 0], torch.tensor(0.2))
        assert torch.allclose(result[0, 1, :, :, 1], torch.tensor(0.8))

    def test_network_without_sizes_cannot_have_a_token_spacing(self):
        with pytest.raises(ConfigurationError, match="image_size"):
            VolumeSliceInferer(token_spacing_mm=2.0)(bright(1, 1, 8, 8, 2), Textured())


class TestAgainstMonai:
    def test_same_map_as_slice_inferer(self):
        volume = bright(2, 1, 16, 18, 5)
        network = Textured()
        with torch.no_grad():
            expected = SliceInferer(roi_size=(16, 18), spatial_dim=2, sw_batch_size=2)(volume, network)
            result = VolumeSliceInferer()(volume, network)
        assert torch.allclose(result, expected, atol=1e-6)

    def test_same_map_as_sliding_windows_in_each_slice(self):
        volume = bright(1, 1, 20, 25, 3)
        network = Textured()
        with torch.no_grad():
            windows = SlidingWindowInferer((8, 9), sw_batch_size=3, overlap=0.25, mode="gaussian")
            expected = torch.stack([windows(volume[..., k], network) for k in range(3)], dim=-1)
            slicewise = SliceInferer(roi_size=(8, 9), sw_batch_size=3, spatial_dim=2, overlap=0.25, mode="constant")
            constant = slicewise(volume, network)
            result = VolumeSliceInferer(roi_size=(8, 9))(volume, network)
            plain = VolumeSliceInferer(roi_size=(8, 9), sw_mode="constant")(volume, network)
        assert torch.allclose(result[:, 0], expected[:, 0], atol=1e-6)
        assert torch.allclose(plain[:, 0], constant[:, 0], atol=1e-6)
        assert torch.equal(result[:, 1], expected[:, 1].amax((1, 2), keepdim=True).expand_as(result[:, 1]))


class TestInWorkflows:
    @pytest.mark.parametrize("planes", [None, "sagittal"])  # whose pixels are isotropic: nothing is resampled
    def test_invertd_brings_the_map_back_to_the_scan(self, planes):
        scan = torch.zeros(14, 20, 17)
        scan[2:12, 3:15, 4:15] = bright(10, 12, 11)
        affine = torch.tensor([[0.0, 0, 2, 5], [-1, 0, 0, 7], [0, 1, 0, -9], [0, 0, 0, 1]], dtype=torch.float64)
        pre = Compose(
            [
                EnsureChannelFirstd("image", channel_dim="no_channel"),
                Orientationd("image", axcodes="PLS", labels=None),
                CropForegroundd("image", source_key="image", margin=1, allow_smaller=False),
                SpatialPadd("image", spatial_size=(16, 16, -1)),
            ]
        )
        loader = DataLoader(Dataset([{"image": MetaTensor(scan.clone(), affine=affine)}], pre), batch_size=1)
        post = Invertd("pred", transform=pre, orig_keys="image", nearest_interp=False)
        batch = next(iter(loader))
        batch["pred"] = VolumeSliceInferer(planes=planes, min_foreground=0, fusion="max")(batch["image"], Brightness())
        assert batch["pred"].applied_operations == batch["image"].applied_operations
        result = post(decollate_batch(batch)[0])["pred"]
        assert result.shape == (2, 14, 20, 17)
        assert torch.equal(result.affine, affine)
        assert torch.equal(result.as_tensor()[0], scan)

    def test_invertd_after_resampling_keeps_grid_and_affine(self):
        scan = MetaTensor(bright(1, 12, 14, 9), affine=torch.diag(torch.tensor([1.0, 1, 3, 1])))
        pre = Compose([Spacingd("image", pixdim=(2.0, 2.0, 2.0)), Orientationd("image", axcodes="PLS", labels=None)])
        batch = next(iter(DataLoader(Dataset([{"image": scan}], pre), batch_size=1)))
        batch["pred"] = VolumeSliceInferer()(batch["image"], Brightness())
        result = Invertd("pred", transform=pre, orig_keys="image", nearest_interp=False)(decollate_batch(batch)[0])
        assert result["pred"].shape == (2, 12, 14, 9)
        assert torch.allclose(result["pred"].affine, scan.affine)

    def test_plain_tensor_in_plain_tensor_out(self):
        result = VolumeSliceInferer()(bright(1, 1, 4, 4, 2).double(), Brightness())
        assert type(result) is torch.Tensor
        assert result.dtype == torch.float32

    def test_meta_of_the_inputs_is_not_shared(self):
        inputs = MetaTensor(bright(1, 1, 4, 4, 2), affine=torch.eye(4))
        result: Any = VolumeSliceInferer()(inputs, Brightness())
        result.affine = 2 * torch.eye(4)
        assert torch.equal(inputs.affine, torch.eye(4, dtype=torch.float64))

    @pytest.mark.parametrize("fusion", ["mean", "max"])
    def test_any_grad_mode(self, fusion):
        volume = bright(1, 1, 6, 6, 4)
        inferer = VolumeSliceInferer(planes=ALL_PLANES, fusion=fusion, smooth_slices_mm=1.0, roi_size=4)
        network = Textured()
        result = inferer(volume, network)
        result[:, 0].sum().backward()
        assert network.kernel.grad is not None
        assert network.kernel.grad.abs().max() > 0
        with torch.inference_mode():
            assert torch.equal(inferer(volume, network), result)

    def test_arguments_reach_the_network(self):
        volume = bright(1, 1, 6, 6, 4)
        with torch.no_grad():
            result = VolumeSliceInferer()(volume, Textured(), gain=0.0)
            assert torch.equal(result, VolumeSliceInferer()(volume, Textured(), 0.0))
        assert torch.allclose(result[0, 0, 0, :, 0], torch.sigmoid(torch.linspace(0, 1, 6)), atol=1e-6)

    def test_amp_is_bfloat16_on_the_cpu(self):
        volume = bright(1, 1, 8, 8, 3)
        with torch.no_grad():
            exact = VolumeSliceInferer()(volume, Textured())
            rough = VolumeSliceInferer(amp=True)(volume, Textured())
        assert rough.dtype == torch.float32
        assert 0 < (rough - exact).abs().max() < 0.02

    def test_computes_and_gathers_where_asked(self):
        places = []

        def network(slices):
            places.append(slices.device.type)
            return slices.repeat(1, 2, 1, 1)

        inferer = VolumeSliceInferer(min_foreground=0, device="meta", output_device="meta")
        assert inferer(bright(1, 1, 4, 4, 2), network).device.type == "meta"
        assert places == ["meta"]
        VolumeSliceInferer(output_device="cpu")(bright(1, 1, 4, 4, 2), network)
        assert places[-1] == "cpu"

    def test_progress_names_the_plane(self, capsys):
        VolumeSliceInferer(planes="coronal", progress=True)(bright(1, 1, 4, 5, 6), Brightness())
        assert "coronal" in capsys.readouterr().err
        VolumeSliceInferer()(bright(1, 1, 4, 5, 6), Brightness())
        assert capsys.readouterr().err == ""

    def test_volume_without_batch_axis_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"\(1, 4, 4, 4\).*batch"):
            VolumeSliceInferer()(bright(1, 4, 4, 4), Brightness())
