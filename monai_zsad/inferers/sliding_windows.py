"""A network on a batch of slices: with or without windows, in mixed precision, within the available memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from monai.inferers import sliding_window_inference

from monai_zsad.errors import ConfigurationError
from monai_zsad.inferers.arguments import is_count

__all__ = [
    "SliceRunner",
    "covers",
    "network_device",
    "network_sizes",
    "slice_values",
    "token_distance",
    "window_sides",
]

# Map and score; the third channel is the unfamiliarity.
_CHANNELS = (2, 3)

logger = logging.getLogger(__name__)


def window_sides(
    token_spacing_mm: float, spacing: tuple[float, float], image_size: int, patch_size: int
) -> tuple[int, int]:
    """Rows and columns of the window for a given distance between the network's tokens.

    Args:
        token_spacing_mm: distance between tokens in mm.
        spacing: mm between the rows and between the columns of a slice.
        image_size: side of the network's square input in pixels. Windows are resized to it.
        patch_size: side of a token in pixels of that input.

    Returns:
        Rows and columns of the window in pixels of the slice, at least 1.

    Example:
        >>> window_sides(2.0, (0.5, 0.5), image_size=518, patch_size=14)  # 37 tokens of 2 mm = 74 mm
        (148, 148)
    """
    extent = token_spacing_mm * image_size / patch_size
    return max(1, round(extent / spacing[0])), max(1, round(extent / spacing[1]))


def token_distance(
    sides: tuple[int, int], spacing: tuple[float, float], image_size: int, patch_size: int
) -> tuple[float, float]:
    """Distance between tokens in mm, along rows and columns, if a slice or window is resized to the network's input.

    Args:
        sides: rows and columns of the slice or window in pixels.
        spacing: mm between its rows and between its columns.
        image_size: side of the network's square input in pixels.
        patch_size: side of a token in pixels of that input.

    Returns:
        mm along rows and along columns.

    Example:
        >>> token_distance((512, 512), (0.75, 0.75), image_size=512, patch_size=16)
        (12.0, 12.0)
    """
    return sides[0] * spacing[0] * patch_size / image_size, sides[1] * spacing[1] * patch_size / image_size


def covers(window: Sequence[int], size: Sequence[int]) -> bool:
    """Whether a slice fits into one window. Both are given as rows and columns in pixels."""
    return window[0] >= size[0] and window[1] >= size[1]


def network_device(network: object) -> torch.device | None:
    """The device of a module's parameters; None if it has none."""
    parameter = next(network.parameters(), None) if isinstance(network, torch.nn.Module) else None
    return None if parameter is None else parameter.device


def network_sizes(network: object) -> tuple[int, int]:
    """``image_size`` and ``patch_size`` in pixels, also of a network inside ``DistributedDataParallel``.

    Raises:
        ConfigurationError: if the network lacks one of them.
    """
    inner = network.module if isinstance(network, torch.nn.parallel.DistributedDataParallel) else network
    sizes = getattr(inner, "image_size", None), getattr(inner, "patch_size", None)
    for name, size in zip(("image_size", "patch_size"), sizes, strict=True):
        if not is_count(size):
            raise ConfigurationError(
                f"{type(inner).__name__}.{name} is {size!r}, but a whole number of pixels is needed to compute the "
                "distance between tokens: use a network of monai_zsad, set the attribute, or give roi_size instead of "
                "token_spacing_mm."
            )
    return int(sizes[0] or 0), int(sizes[1] or 0)


def slice_values(pred: torch.Tensor) -> torch.Tensor:
    """Score and unfamiliarity of slices: (N, 2).

    Blended windows give a slice several values. The score is their maximum, as a lesion lies in few windows. The
    unfamiliarity is their median, as windows at the border of the body hold little of it; empty windows do not count.

    Args:
        pred: (N, 2 or 3, H, W), from :class:`SliceRunner`. Without a third channel, the unfamiliarity is 0.

    >>> slice_values(torch.tensor([0.5, 0.2, 3.0]).view(1, 3, 1, 1).expand(-1, -1, 2, 2))
    tensor([[0.2000, 3.0000]])
    """
    values = pred.new_zeros(len(pred), 2)
    values[:, 0] = pred[:, 1].amax((1, 2))
    if pred.shape[1] > 2:
        occupied = pred[:, 2].flatten(1).masked_fill(pred[:, 2].flatten(1) == 0, torch.nan)
        values[:, 1] = occupied.nanmedian(1).values.nan_to_num(0.0)
    return values


class SliceRunner:
    """A network with the settings of its calls: slices (N, C, H, W) to float32 (N, 2 or 3, H, W), as the network gives.

    MONAI's :class:`~monai.inferers.SlidingWindowInferer` was not enough: it changes the network's result in place, runs
    empty windows too, and fails if a batch does not fit into memory. Windows are cut and blended by MONAI's
    :func:`~monai.inferers.sliding_window_inference`.

    Args:
        network: network that maps (N, C, H, W) to (N, 2 or 3, H, W).
        args: further positional arguments of each network call.
        kwargs: further keyword arguments of each network call.
        batch_size: number of slices or windows per network call. Each time a call runs out of memory, it is halved for
            the following calls.
        overlap: fraction by which neighbouring windows overlap, in [0, 1).
        sw_mode: "gaussian" or "constant" weighting of windows.
        empty_below: a window without a pixel above this value is skipped, and its results are 0. None: no window is
            skipped.
        amp_dtype: run the network under autocast to this type; None: without autocast.
        device_type: "cpu" or "cuda", for autocast.

    Attributes:
        channels: number of channels that the network gives; None before it has run.

    Example:
        >>> runner = SliceRunner(lambda x: x.mean(1, keepdim=True).repeat(1, 2, 1, 1), batch_size=2)
        >>> slices = torch.rand(3, 1, 20, 30)
        >>> torch.allclose(runner(slices, window=(8, 8))[:, :1], slices)
        True
    """

    def __init__(
        self,
        network: Callable[..., torch.Tensor],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        batch_size: int = 4,
        overlap: float = 0.25,
        sw_mode: str = "gaussian",
        empty_below: float | None = 0.0,
        amp_dtype: torch.dtype | None = None,
        device_type: str = "cpu",
    ) -> None:
        self.network = network
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self.batch_size = batch_size
        self.overlap = overlap
        self.sw_mode = sw_mode
        self.empty_below = empty_below
        self.amp_dtype = amp_dtype
        self.device_type = device_type
        self.channels: int | None = None

    def __call__(self, slices: torch.Tensor, window: tuple[int, int] | None = None) -> torch.Tensor:
        """Run the network.

        Args:
            slices: (N, C, H, W), float32, on the network's device.
            window: rows and columns of the windows in pixels. With None, or if the slice fits into one window, no
                windows are used. If the slice is smaller than the window in one direction only, it is padded there with
                zeros, so that windows keep their shape.

        Returns:
            (N, 2 or 3, H, W), float32. With windows, all channels are blended.

        Raises:
            ConfigurationError: if the network's result has another shape, or a single slice or window does not fit
                into memory.
        """
        if window is None or covers(window, slices.shape[-2:]):
            return self._run(slices)
        # The first windows may be empty: then it is not yet known how many channels the network gives.
        run = partial(self._run_occupied, channels=self.channels or _CHANNELS[-1])
        blended = sliding_window_inference(
            slices, window, self.batch_size, run, overlap=self.overlap, mode=self.sw_mode
        )
        return blended[:, : self.channels or _CHANNELS[0]]

    def _run_occupied(self, windows: torch.Tensor, channels: int) -> torch.Tensor:
        # MONAI multiplies the result in place, so it must be neither the network's own tensor nor a view of the input.
        result = windows.new_zeros((len(windows), channels, *windows.shape[-2:]))
        occupied = torch.ones(len(windows), dtype=torch.bool, device=windows.device)
        if self.empty_below is not None:
            occupied = (windows > self.empty_below).flatten(1).any(1)
        if occupied.any():
            found = self._run(windows[occupied])
            result[occupied, : found.shape[1]] = found
        return result

    def _run(self, slices: torch.Tensor) -> torch.Tensor:
        parts: list[torch.Tensor] = []
        start = 0
        while start < len(slices):
            part = slices[start : start + self.batch_size]
            result = self._try(part)
            if result is None:
                self.batch_size = max(1, len(part) // 2)
                logger.warning("out of memory with %d slices: continuing with %d", len(part), self.batch_size)
                if self.device_type == "cuda":
                    torch.cuda.empty_cache()
                continue
            parts.append(result)
            start += len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _try(self, slices: torch.Tensor) -> torch.Tensor | None:
        """The network's result, or None if a batch of more than one slice does not fit into memory."""
        context: AbstractContextManager = nullcontext()
        if self.amp_dtype is not None:
            context = torch.autocast(self.device_type, dtype=self.amp_dtype)
        try:
            with context:
                result = self.network(slices, *self.args, **self.kwargs)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(slices) == 1:
                raise ConfigurationError(
                    f"out of memory with a single slice of {tuple(slices.shape[1:])}: free memory on the device, "
                    "use amp=True, a network with a smaller image_size, or device='cpu'."
                ) from error
            return None
        expected = [(len(slices), channels, *slices.shape[-2:]) for channels in _CHANNELS]
        if not isinstance(result, torch.Tensor) or tuple(result.shape) not in expected:
            shape = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
            raise ConfigurationError(
                f"the network returned {shape} for slices of {tuple(slices.shape)}, instead of a tensor of "
                f"{expected[0]} (channel 0: anomaly map, channel 1: slice score at every pixel; a third channel: "
                "unfamiliarity): use a network of monai_zsad, or wrap yours so that it returns this."
            )
        self.channels = result.shape[1]
        return result.float()


def _is_out_of_memory(error: BaseException) -> bool:
    # On the CPU, torch raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
