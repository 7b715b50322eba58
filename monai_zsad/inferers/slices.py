"""A volume through a 2D network, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import optional_import

from monai_zsad.errors import ConfigurationError
from monai_zsad.inferers.arguments import (
    check,
    is_count,
    is_distance,
    is_number,
    parse_amp_type,
    parse_device,
    parse_flag,
    parse_planes,
    parse_window,
)
from monai_zsad.inferers.context import with_context
from monai_zsad.inferers.planes import SlicePlane, named_plane, native_plane, volume_affines
from monai_zsad.inferers.sliding_windows import (
    SliceRunner,
    covers,
    network_device,
    network_sizes,
    token_distance,
    window_sides,
)
from monai_zsad.inferers.smoothing import smooth_through_slices
from monai_zsad.inferers.thinning import fill_between, thinned

__all__ = ["VolumeSliceInferer"]

tqdm, _ = optional_import("tqdm", name="tqdm")


class VolumeSliceInferer(Inferer):
    """Run a 2D network over the slices of volumes and gather its maps and scores as volumes on the same grid.

    MONAI's :class:`~monai.inferers.SliceInferer` was not enough: it runs every slice, empty ones too, along one axis
    as it lies; it knows no anatomical planes, resamples and fuses none; with windows, its score channel is blended
    from pixel to pixel, so that a slice has no one score; it keeps a second volume of window counts, does not hand
    further arguments to the network, and works in place on what the network returns. Windows within a slice are
    MONAI's :func:`~monai.inferers.sliding_window_inference`.

    The network maps (N, C, H, W) slices in [0, 1] to (N, 2, H, W): channel 0 the anomaly map in [0, 1], channel 1 the
    slice's score at every pixel. A slice's result does not depend on the batch it is in.

    **Result.** Channel 0 is the anomaly map. Channel 1 is, at every voxel, the score of its slice along the *last*
    axis: of the plane that cuts along it, if that plane was run; otherwise (say, only "coronal" on an axial volume)
    no such slice was scored, and the maximum of the fused map over the slice stands in for it.

    **Skipped slices** have map and score 0 and cost nothing. In a fusion they count as 0.

    **Planes.** Without ``planes`` the slices along the last axis are run as they lie: transforms have made them
    upright and square. With names, the volume is cut again along each: see
    :func:`~monai_zsad.inferers.named_plane` for how slices are shown. Orientation and spacing come from the affine of
    a :class:`~monai.data.MetaTensor` (RAS, or LPS where its ``meta["space"]`` says so); a plain tensor counts as axes
    (posterior, left, superior) of 1 mm. Maps go back to the input's grid by bilinear interpolation, exactly where the
    in-plane spacing is isotropic.

    **Memory** grows with the volume alone. For V voxels of C channels: 4 C V bytes of input (the caller's), 8 V of
    result, 4 V more where several planes are fused, and about 4 (2 C + 5) for each pixel of one batch, besides what
    the network needs by itself. A CT of 512 x 512 x 300 (V = 78.6 million) with batches of four: 300 + 600 + 28 =
    928 MiB (measured on the CPU: 920), in several planes 1228 MiB (measured: 1232).

    Args:
        batch_size: slices, or windows of slices, per network call. If a call runs out of memory, the batch is halved
            for the rest of that inference.
        foreground_threshold: a pixel is foreground if its largest channel is above this.
        min_foreground: slices whose fraction of foreground pixels is smaller are skipped, in [0, 1]; 0 runs all.
        planes: None, or one or several of "axial", "coronal", "sagittal".
        fusion: how the planes' maps are fused at each voxel: "mean" or "max".
        token_spacing_mm: wanted distance in mm between the network's tokens, to find small lesions: slices are run
            in windows of the size that gives it. Needs a network with ``image_size`` and ``patch_size``. Slices that
            a window covers are run whole. Not with ``roi_size``.
        roi_size: the same with a given window: one number or (rows, columns) in pixels of the slice (with ``planes``:
            after resampling). A slice's score is then the maximum over the slice of the blended window scores;
            windows without foreground are skipped, unless ``min_foreground`` is 0.
        overlap: fraction by which neighbouring windows overlap, in [0, 1).
        sw_mode: blending of windows: "gaussian" or "constant".
        context_mm: distance in mm of the neighbours that a network sees beside each slice: it gets three channels,
            the slice in the middle and what lies so far below and above it, interpolated between slices; beyond the
            volume's ends, the last slice. For networks trained so, and volumes of one channel. None: the slice alone.
        slice_spacing_mm: slices that lie closer together than this are thinned: of each run of slices with foreground
            the first, every k-th and the last go through the network, k being the largest number whose distance is not
            above it; map and score of those between are interpolated linearly. A network whose map's own pixels are
            2 mm apart needs no slice each millimetre. (MONAI's :class:`~monai.transforms.Spacingd` instead would
            also take those slices from what follows, such as a refinement by the scan's edges.) None: all are run.
        smooth_slices_mm: standard deviation in mm of a Gaussian that smooths each plane's map through its slices,
            before fusion. Skipped slices neither give nor take: they stay 0, and the map beside them, or at the
            volume's end, is not darkened. Scores are not smoothed.
        device: where slices are run; default: the device of the network's parameters, else of the inputs. Slices are
            moved there batch by batch.
        output_device: where results are gathered, for example "cpu"; default: the device of the inputs.
        amp: run the network under autocast.
        amp_dtype: "float16" or "bfloat16" (or the torch type); default: float16 on CUDA, else bfloat16.
        progress: show a progress bar for each plane.

    Raises:
        ConfigurationError: if an argument is not as described.

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
        check(is_count(batch_size), "batch_size", batch_size, "a whole number of at least 1")
        check(is_number(foreground_threshold), "foreground_threshold", foreground_threshold, "a finite number")
        check(is_number(min_foreground) and 0 <= min_foreground <= 1, "min_foreground", min_foreground, "within [0, 1]")
        check(fusion in ("mean", "max"), "fusion", fusion, '"mean" or "max"')
        check(is_distance(token_spacing_mm), "token_spacing_mm", token_spacing_mm, "None, or mm above 0")
        check(is_number(overlap) and 0 <= overlap < 1, "overlap", overlap, "at least 0 and below 1")
        check(sw_mode in ("gaussian", "constant"), "sw_mode", sw_mode, '"gaussian" or "constant"')
        check(is_distance(slice_spacing_mm), "slice_spacing_mm", slice_spacing_mm, "None, or mm above 0")
        check(is_distance(smooth_slices_mm), "smooth_slices_mm", smooth_slices_mm, "None, or mm above 0")
        check(is_distance(context_mm), "context_mm", context_mm, "None, or mm above 0")
        check(
            token_spacing_mm is None or roi_size is None,
            "roi_size",
            roi_size,
            "None beside token_spacing_mm, as both set the window: give one of them",
        )
        self.batch_size = batch_size
        self.foreground_threshold = foreground_threshold
        self.min_foreground = min_foreground
        self.planes = parse_planes(planes)
        self.fusion = fusion
        self.token_spacing_mm = token_spacing_mm
        self.roi_size = parse_window(roi_size)
        self.overlap = overlap
        self.sw_mode = sw_mode
        self.slice_spacing_mm = slice_spacing_mm
        self.smooth_slices_mm = smooth_slices_mm
        self.context_mm = context_mm
        self.device = parse_device("device", device)
        self.output_device = parse_device("output_device", output_device)
        self.amp = parse_flag("amp", amp)
        self.amp_dtype = parse_amp_type(amp_dtype)
        self.progress = parse_flag("progress", progress)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Run the network over the volumes.

        Args:
            inputs: (B, C, X, Y, Z), in [0, 1]; without ``planes``: slices (X, Y) along Z. Not changed.
            network: the 2D network.
            args: further positional arguments of each network call.
            kwargs: further keyword arguments of each network call.

        Gradients are left as they are: call it under ``torch.no_grad()``, as MONAI's evaluators do, or each slice's
        graph is kept.

        Returns:
            (B, 2, X, Y, Z), float32, on ``output_device``: anomaly map and slice score. A MetaTensor with the meta data
            and applied operations of the inputs, if they are one, so that ``Invertd`` can bring it back.

        Raises:
            ConfigurationError: if the inputs are not five-dimensional, the network's result has the wrong shape, the
                network lacks what ``token_spacing_mm`` needs, or one slice does not fit into memory.
            InputError: if the affine cannot be used.
        """
        planes = self._planes(inputs)
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
        shape = (len(volumes), 2, *volumes.shape[2:])
        result = torch.zeros(shape, dtype=torch.float32, device=self.output_device or inputs.device)
        for number, volume_planes in enumerate(planes):
            self._run_volume(volumes[number], volume_planes, runner, device, result[number])
        return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result

    def token_distance_mm(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor]) -> dict[str, float]:
        """Distance between the network's tokens on the first volume of a batch, for logs; runs nothing.

        Args:
            inputs: (B, C, X, Y, Z).
            network: a network with ``image_size`` and ``patch_size``.

        Returns:
            For each plane's name the distance in mm, along rows or columns, whichever is larger. Lesions much smaller
            than it may vanish between tokens.

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
        for plane in self._planes(inputs)[0]:
            window = self._window_of(plane, network)
            sides = plane.prepared_size if window is None or covers(window, plane.prepared_size) else window
            distances[plane.name] = max(token_distance(sides, plane.prepared_spacing, *sizes))
        return distances

    def _planes(self, inputs: torch.Tensor) -> list[list[SlicePlane]]:
        """The planes of each volume."""
        if inputs.ndim != 5:
            raise ConfigurationError(
                f"inputs of shape {tuple(inputs.shape)} are not volumes: expected (batch, channels, X, Y, Z); "
                "use EnsureChannelFirstd and a DataLoader before."
            )
        shape = inputs.shape[2:]
        if self.planes is None:
            return [[native_plane(shape, affine)] for affine in volume_affines(inputs)]
        return [[named_plane(name, shape, affine) for name in self.planes] for affine in volume_affines(inputs)]

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
    ) -> None:
        """Run a volume (C, X, Y, Z) into its result (2, X, Y, Z) of zeros."""
        fractions = _foreground_fractions(volume, self.foreground_threshold)
        native_scores = None
        for number, plane in enumerate(planes):
            target = result[0] if number == 0 else torch.zeros_like(result[0])
            scores = self._run_plane(volume, plane, fractions[plane.axis], runner, device, target)
            if plane.axis == 2:
                native_scores = scores
            if number > 0 and self.fusion == "max":
                result[0].clamp_(min=target)
            elif number > 0:
                result[0].add_(target)
            del target  # else it would stay beside the next plane's
        if len(planes) > 1 and self.fusion == "mean":
            result[0].div_(len(planes))
        result[1] = result[0].amax((0, 1)) if native_scores is None else native_scores

    def _run_plane(
        self,
        volume: torch.Tensor,
        plane: SlicePlane,
        fractions: torch.Tensor,
        runner: SliceRunner,
        device: torch.device,
        target: torch.Tensor,
    ) -> torch.Tensor:
        """Run a volume (C, X, Y, Z) along a plane, its map into ``target`` (X, Y, Z) of zeros; returns the scores."""
        slices, maps = plane.slices(volume), plane.slices(target)
        scores = target.new_zeros(len(slices))
        seen = fractions >= self.min_foreground
        indices = thinned(seen, self._step(plane))
        window = self._window_of(plane, runner.network)
        with tqdm(total=len(indices), desc=plane.name, unit="slice", disable=not self.progress) as bar:
            for start in range(0, len(indices), self.batch_size):
                chunk = indices[start : start + self.batch_size]
                seen_slices = with_context(slices, chunk, self.context_mm, plane.through_spacing).to(
                    device, torch.float32
                )
                both = runner(plane.prepare(seen_slices), window)
                maps[chunk] = plane.restore(both[:, :1])[:, 0].to(target.device)
                scores[chunk] = both[:, 1].amax((1, 2)).to(target.device)
                del both  # else it would stay beside the next batch's
                bar.update(len(chunk))
        for results in (maps, scores):
            fill_between(results, seen, indices)
        if self.smooth_slices_mm is not None:
            smooth_through_slices(maps, seen, self.smooth_slices_mm / plane.through_spacing)
        return scores

    def _step(self, plane: SlicePlane) -> int:
        """Of the slices that are run; a spacing of 0.999 mm counts as 1."""
        if self.slice_spacing_mm is None:
            return 1
        return max(1, int(self.slice_spacing_mm / plane.through_spacing + 0.01))


def _foreground_fractions(volume: torch.Tensor, threshold: float) -> list[torch.Tensor]:
    """Fraction of foreground in the slices along each axis of a volume (C, X, Y, Z): float64, on the CPU.

    In one pass, row by row: a mask of the whole volume would cost as much memory as the volume.
    """
    shape = volume.shape[1:]
    counts = [torch.zeros(n, dtype=torch.int64, device=volume.device) for n in shape]
    for row in range(shape[0]):
        mask = (volume[:, row] > threshold).any(0)
        counts[0][row] = mask.sum()
        counts[1] += mask.sum(1)
        counts[2] += mask.sum(0)
    return [c.double().cpu() / max(1, shape.numel() // n if n else 1) for c, n in zip(counts, shape, strict=True)]
