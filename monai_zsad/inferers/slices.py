"""Inference of a volume with a 2D network, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from tqdm import tqdm

from monai_zsad.inferers import arguments
from monai_zsad.inferers.arguments import parse_device, parse_flag
from monai_zsad.inferers.planes import SlicePlane, volume_planes
from monai_zsad.inferers.sliding_windows import (
    SliceRunner,
    covers,
    network_device,
    network_sizes,
    slice_values,
    token_distance,
    window_sides,
)
from monai_zsad.inferers.stack import (
    fill_between,
    foreground_fractions,
    slice_step,
    smooth_through_slices,
    thinned,
    values_of_others,
    with_context,
)

__all__ = ["VolumeSliceInferer"]


class VolumeSliceInferer(Inferer):
    """Run a 2D network over the slices of volumes, and return its maps and scores as volumes on the same grid.

    MONAI's :class:`~monai.inferers.SliceInferer` was not enough. It runs empty slices too, and only along an axis of
    the volume: it has no anatomical planes, no resampling and no fusion. With windows, it blends the score channel, so
    that a slice has no single score. It needs a second volume for window counts, and changes the network's result in
    place. Windows in a slice are run by MONAI's :func:`~monai.inferers.sliding_window_inference`.

    The network maps (N, C, H, W) slices in [0, 1] to (N, 2 or 3, H, W): channel 0 is the anomaly map in [0, 1], channel
    1 the score of the slice at every pixel, channel 2 its unfamiliarity: above 1, the slice is unlike what the network
    was trained on. The result of a slice does not depend on its batch.

    **Result.** Channel 0 is the anomaly map. Channels 1 and 2 hold at every voxel score and unfamiliarity of its slice
    along the *last* axis. If the plane along this axis was not run (for example only "coronal" on an axial volume),
    they hold the maximum of the fused map over the slice, and the median unfamiliarity of the slices that were run.
    Skipped slices have map, score and unfamiliarity 0. They count as 0 in a fusion.

    **Planes.** Without ``planes``, the slices along the last axis are run as they are, since transforms have made them
    upright and square. With ``planes``, the volume is cut along each, see :func:`~monai_zsad.inferers.named_plane`.
    Orientation and spacing come from the affine of a ``MetaTensor`` (RAS, or LPS if its ``meta["space"]`` says so). A
    plain tensor is taken to have axes (posterior, left, superior) of 1 mm. Maps return to the input's grid by bilinear
    interpolation; this is exact if the in-plane spacing is isotropic.

    **Memory.** V voxels of C channels need 4 C V bytes for the input, 8 V for the result (12 V with unfamiliarity), 4 V
    more if several planes are fused, and about 4 (2 C + 5) for each pixel of a batch, besides the network's own memory.

    Args:
        batch_size: number of slices, or of windows, per network call. If a call runs out of memory, the batch is halved
            for the rest of the inference.
        foreground_threshold: a pixel is foreground if its largest channel is above this value.
        min_foreground: slices with a smaller fraction of foreground pixels are skipped, in [0, 1]; 0 runs all slices.
        planes: None, or one or several of "axial", "coronal", "sagittal".
        fusion: fusion of the planes' maps at each voxel: "mean" or "max".
        token_spacing_mm: distance in mm between the network's tokens, to find small lesions. It sets the size of the
            windows in which slices are run. It needs a network with ``image_size`` and ``patch_size``. Slices that fit
            into one window are run without windows. It excludes ``roi_size``.
        roi_size: size of the windows: one number or (rows, columns) in pixels of the slice (with ``planes``: after
            resampling). The score of a slice is the maximum over the slice of the blended window scores. Windows
            without foreground are skipped, unless ``min_foreground`` is 0.
        overlap: fraction by which neighbouring windows overlap, in [0, 1).
        sw_mode: blending of windows: "gaussian" or "constant".
        context_mm: distance in mm of the neighbours of each slice. The network gets three channels: the neighbour
            below, the slice, the neighbour above. Neighbours are interpolated between slices; beyond the ends of the
            volume, the last slice is used. For networks trained in this way, and one channel. None: no neighbours.
        slice_spacing_mm: run only slices with about this distance. In each series of slices with foreground, the first,
            every k-th and the last are run, with the largest k whose distance is not above it. Map and values of the
            others are interpolated linearly; MONAI's ``Spacingd`` would remove them. None: all slices are run.
        smooth_slices_mm: standard deviation in mm of a Gaussian that smooths the map of each plane through its slices,
            before fusion. Skipped slices stay 0 and do not darken the map beside them. Scores are not smoothed.
        device: device of the network calls; default: that of the network's parameters, else of the inputs.
        output_device: device of the results, for example "cpu"; default: the device of the inputs.
        amp: run the network under autocast.
        amp_dtype: "float16" or "bfloat16" (or the torch type); default: float16 on CUDA, else bfloat16.
        progress: show a progress bar for each plane.

    Raises:
        ConfigurationError: if an argument has a value that is not accepted.

    Example:
        >>> def network(slices):  # brightness as the anomaly map, its maximum as the score
        ...     score = slices.amax((1, 2, 3), keepdim=True).expand(-1, 1, *slices.shape[-2:])
        ...     return torch.cat([slices.mean(1, keepdim=True), score], dim=1)
        >>> volume = torch.rand(1, 1, 16, 16, 5)
        >>> volume[..., 3] = 0  # never reaches the network
        >>> result = VolumeSliceInferer(batch_size=2)(volume, network)
        >>> result.shape, torch.equal(result[:, :1], volume)
        (torch.Size([1, 2, 16, 16, 5]), True)
        >>> torch.equal(result[0, 1, 0, 0], volume.amax((0, 1, 2, 3)))
        True
    """

    def __init__(
        self,
        batch_size: int = 4,
        foreground_threshold: float = 0.0,
        min_foreground: float = 0.01,
        planes: str | Sequence[str] | None = None,
        fusion: str = "mean",
        token_spacing_mm: float | None = None,
        roi_size: int | Sequence[int] | None = None,
        overlap: float = 0.25,
        sw_mode: str = "gaussian",
        slice_spacing_mm: float | None = None,
        smooth_slices_mm: float | None = None,
        context_mm: float | None = None,
        device: str | torch.device | None = None,
        output_device: str | torch.device | None = None,
        amp: bool = False,
        amp_dtype: str | torch.dtype | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.foreground_threshold = foreground_threshold
        self.min_foreground = min_foreground
        self.planes = arguments.parse_planes(planes)
        self.fusion = fusion
        self.token_spacing_mm = token_spacing_mm
        self.roi_size = arguments.parse_window(roi_size)
        self.overlap = overlap
        self.sw_mode = sw_mode
        self.slice_spacing_mm = slice_spacing_mm
        self.smooth_slices_mm = smooth_slices_mm
        self.context_mm = context_mm
        self.device = parse_device("device", device)
        self.output_device = parse_device("output_device", output_device)
        self.amp = parse_flag("amp", amp)
        self.amp_dtype = arguments.parse_amp_type(amp_dtype)
        self.progress = parse_flag("progress", progress)
        self.watch: Callable[[int, int], None] | None = None  # called with: slices that are done now, slices in all
        arguments.check_arguments(self)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Run the network over the volumes.

        Args:
            inputs: (B, C, X, Y, Z), in [0, 1]; without ``planes``: slices (X, Y) along Z. They are not changed.
            network: the 2D network.
            args: further positional arguments of each network call.
            kwargs: further keyword arguments of each network call.

        Call it under ``torch.no_grad()``, as MONAI's evaluators do. Otherwise the graph of each slice is kept.

        Returns:
            (B, 2 or 3, X, Y, Z), float32, on ``output_device``. If the inputs are a MetaTensor, the result is one too,
            with their meta data and applied operations, so that ``Invertd`` works.

        Raises:
            ConfigurationError: if the inputs are not five-dimensional, the network gives another shape or lacks the
                attributes for ``token_spacing_mm``, or one slice does not fit into memory.
            InputError: if the affine cannot be used.
        """
        batch_planes = volume_planes(inputs, self.planes)
        device = self.device or network_device(network) or inputs.device
        dtype = self.amp_dtype or (torch.float16 if device.type == "cuda" else torch.bfloat16)
        runner = SliceRunner(
            network,
            args,
            kwargs,
            batch_size=self.batch_size,
            overlap=self.overlap,
            sw_mode=self.sw_mode,
            empty_below=self.foreground_threshold if self.min_foreground > 0 else None,
            amp_dtype=dtype if self.amp else None,
            device_type=device.type,
        )
        volumes = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        shape = (len(volumes), 3, *volumes.shape[2:])
        # Memory of the third channel is only taken when it is written.
        result = torch.empty(shape, dtype=torch.float32, device=self.output_device or inputs.device)
        result[:, :2] = 0
        unfamiliar = [
            self._run_volume(volumes[number], planes, runner, device, result[number, :2])
            for number, planes in enumerate(batch_planes)
        ]
        if runner.channels == 3:
            result[:, 2] = torch.stack(unfamiliar)[:, None, None]
        result = result[:, : runner.channels or 2].contiguous()
        return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result

    def token_distance_mm(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor]) -> dict[str, float]:
        """Distance between the network's tokens in the first volume of a batch, for logs. The network is not run.

        Args:
            inputs: (B, C, X, Y, Z).
            network: a network with ``image_size`` and ``patch_size``.

        Returns:
            The distance in mm by the plane's name, the larger one of rows and columns. Smaller lesions may be missed.

        Raises:
            ConfigurationError: if the network lacks one of the attributes.

        Example:
            >>> network = torch.nn.Identity()
            >>> network.image_size, network.patch_size = 224, 16
            >>> volume = torch.zeros(1, 1, 448, 448, 3)
            >>> VolumeSliceInferer().token_distance_mm(volume, network)
            {'axial': 32.0}
            >>> VolumeSliceInferer(token_spacing_mm=8).token_distance_mm(volume, network)
            {'axial': 8.0}
        """
        sizes = network_sizes(network)
        distances = {}
        for plane in volume_planes(inputs, self.planes)[0]:
            window = self._window_of(plane, network)
            sides = plane.prepared_size if window is None or covers(window, plane.prepared_size) else window
            distances[plane.name] = max(token_distance(sides, plane.prepared_spacing, *sizes))
        return distances

    def _window_of(self, plane: SlicePlane, network: Callable[..., torch.Tensor]) -> tuple[int, int] | None:
        if self.token_spacing_mm is None:
            return self.roi_size
        return window_sides(self.token_spacing_mm, plane.prepared_spacing, *network_sizes(network))

    def _run_volume(
        self,
        volume: torch.Tensor,
        planes: list[SlicePlane],
        runner: SliceRunner,
        device: torch.device,
        result: torch.Tensor,
    ) -> torch.Tensor:
        """Run a volume (C, X, Y, Z) into its map and score (2, X, Y, Z) of zeros; returns the unfamiliarity (Z,)."""
        chosen = self._chosen(volume, planes)
        total = sum(len(indices) for _, indices in chosen)
        values = []
        for number, plane in enumerate(planes):
            target = result[0] if number == 0 else torch.zeros_like(result[0])
            values.append(self._run_plane(volume, plane, chosen[number], total, runner, device, target))
            if number > 0 and self.fusion == "max":
                result[0].clamp_(min=target)
            elif number > 0:
                result[0].add_(target)
            del target  # otherwise it stays in memory beside that of the next plane
        if len(planes) > 1 and self.fusion == "mean":
            result[0].div_(len(planes))
        own = [found.T for plane, found in zip(planes, values, strict=True) if plane.axis == 2]
        result[1], unfamiliarity = (own or [values_of_others(result[0], values, [one for one, _ in chosen])])[-1]
        return unfamiliarity

    def _chosen(self, volume: torch.Tensor, planes: list[SlicePlane]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each plane, which slices need a result, and the indices of those that are run."""
        fractions = foreground_fractions(volume, self.foreground_threshold)
        seen = [fractions[plane.axis] >= self.min_foreground for plane in planes]
        steps = [slice_step(self.slice_spacing_mm, plane.through_spacing) for plane in planes]
        return [(one, thinned(one, step)) for one, step in zip(seen, steps, strict=True)]

    def _run_plane(
        self,
        volume: torch.Tensor,
        plane: SlicePlane,
        chosen: tuple[torch.Tensor, torch.Tensor],
        total: int,
        runner: SliceRunner,
        device: torch.device,
        target: torch.Tensor,
    ) -> torch.Tensor:
        """Run a volume along a plane, its map into ``target`` (X, Y, Z) of zeros; returns the slices' values (N, 2)."""
        slices, maps = plane.slices(volume), plane.slices(target)
        values = target.new_zeros(len(slices), 2)
        seen, indices = chosen
        window = self._window_of(plane, runner.network)
        with tqdm(total=len(indices), desc=plane.name, unit="slice", disable=not self.progress) as bar:
            for start in range(0, len(indices), self.batch_size):
                chunk = indices[start : start + self.batch_size]
                inputs = with_context(slices, chunk, self.context_mm, plane.through_spacing).to(device, torch.float32)
                pred = runner(plane.prepare(inputs), window)
                maps[chunk] = plane.restore(pred[:, :1])[:, 0].to(target.device)
                values[chunk] = slice_values(pred).to(target.device)
                del pred  # otherwise it stays in memory beside that of the next batch
                bar.update(len(chunk))
                if self.watch is not None:
                    self.watch(len(chunk), total)
        for results in (maps, values):
            fill_between(results, seen, indices)
        if self.smooth_slices_mm is not None:
            smooth_through_slices(maps, seen, self.smooth_slices_mm / plane.through_spacing)
        return values
