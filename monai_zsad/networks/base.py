"""Base of all zero-shot anomaly networks: the input and output that MONAI needs, and the loading of weights."""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from monai_zsad.backbones import Activation, CLIPBackbone, PositionResize
from monai_zsad.backbones.weights import CLIP_MEAN, CLIP_STD, WeightsRecord
from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.maps import map_and_score

__all__ = ["Prediction", "ZeroShotNetwork"]


class Prediction(NamedTuple):
    """Result of a network for B images at its own input size S.

    Attributes:
        anomaly_map: (B, S, S) in [0, 1], float32.
        score: (B,) in [0, 1], float32.
        details: intermediate results by name, for parity tests and for inspection.
        unfamiliarity: (B,), how unlike the training data an image is, above 1 outside of them. Only of networks that
            can tell.
    """

    anomaly_map: torch.Tensor
    score: torch.Tensor
    details: Mapping[str, torch.Tensor]
    unfamiliarity: torch.Tensor | None = None

    def as_slices(self, size: Sequence[int]) -> torch.Tensor:
        """(B, 2 or 3, H, W), the form that MONAI's inferers process: map, score and, if there is, unfamiliarity.

        Args:
            size: (H, W), to which the map is resized bilinearly.

        Returns:
            A new tensor, float32.
        """
        known = (self.score,) if self.unfamiliarity is None else (self.score, self.unfamiliarity)
        return map_and_score(self.anomaly_map, torch.stack(known, dim=1), size)


class ZeroShotNetwork(nn.Module, ABC):
    """Base of the networks: (B, C, H, W) slices in [0, 1] to (B, 2, H, W).

    Channel 0 is the anomaly map in [0, 1], channel 1 the image score, constant over the slice, so that MONAI's
    inferers, ``Invertd`` and export work unchanged. A network that knows its training data adds a third channel, see
    :class:`Prediction`. The network resizes the slices to its own input size and the map
    back, adds channels and normalises. Slices that are not square are stretched, as in the methods' releases.

    The text anchors are a buffer. They are NaN until they are computed, so a network without loaded weights returns
    NaN and not a plausible result.

    Args:
        architecture: see :class:`~monai_zsad.backbones.CLIPBackbone`.
        image_size: side of the input in pixels, a multiple of the patch.
        activation: activation of CLIP's MLPs.
        position_resize: interpolation of CLIP's position embedding.
    """

    def __init__(
        self,
        architecture: str | Mapping[str, Any],
        image_size: int | None,
        *,
        activation: Activation,
        position_resize: PositionResize,
    ) -> None:
        super().__init__()
        self.clip = CLIPBackbone(architecture, image_size, activation=activation, position_resize=position_resize)
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("text_anchors", torch.full((1, 2, self.clip.embed_dim), torch.nan))
        self._restored: dict[str, WeightsRecord] = {}
        # Other runtimes than PyTorch set this, because the parameters do not show their precision. An exported file of
        # the user may have fixed text anchors.
        self.runtime = "torch"
        self.runtime_precision: str | None = None
        self.runtime_file: str | None = None
        self.fixed_anchors = False
        # A method that compares images sets this: its name and settings.
        self.head: dict[str, Any] = {}
        self.text_anchors: torch.Tensor
        self.mean: torch.Tensor
        self.std: torch.Tensor

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> ZeroShotNetwork:
        # ``.to(bfloat16)`` must not round anchors and filters, because similarities are divided by temperatures as
        # small as 0.01.
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            self._buffers[name] = buffer.to(self.get_buffer(name).device)
        return self

    @property
    def image_size(self) -> int:
        """Side S of the square input in pixels."""
        return self.clip.image_size

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels of the input."""
        return self.clip.patch_size

    @property
    def records(self) -> dict[str, WeightsRecord]:
        """Source of the loaded weights, by part (``clip``, ``prompts``, ...)."""
        return self._restored or self._loaded_records()

    def _loaded_records(self) -> dict[str, WeightsRecord]:
        return {} if self.clip.record is None else {"clip": self.clip.record}

    def restore_records(self, records: Mapping[str, WeightsRecord]) -> None:
        """Set the records of weights that ``load_state_dict`` has loaded instead of :meth:`load_weights`.

        Args:
            records: records by part, as :meth:`load_weights` returns them.
        """
        self._restored = dict(records)

    @property
    def meaningless(self) -> bool:
        """Whether any part has random weights from a seed. The output then says nothing about an image."""
        return any(record.meaningless for record in self.records.values())

    @abstractmethod
    def predict(self, images: torch.Tensor) -> Prediction:
        """Map and score of (B, 3, S, S) images normalised with CLIP's mean and standard deviation.

        Args:
            images: (B, 3, S, S), normalised.

        Returns:
            Map and score.
        """

    @abstractmethod
    def update_text_anchors(self) -> None:
        """Compute the text anchors from the loaded weights and keep them."""

    @abstractmethod
    def load_weights(self, *args: Any, **sources: Any) -> dict[str, WeightsRecord]:
        """Load every part by name, file or seed and compute the text anchors.

        Args:
            *args: sources, in the order of the subclass's own arguments.
            **sources: source of each part (``clip``, ``prompts``, ...): a registered name, a file, or ``"seed:N"``.

        Returns:
            The records of the loaded weights, by part.
        """

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1], C of 1 or 3, to (B, 2, H, W): anomaly map and image score, float32.

        Raises:
            ConfigurationError: for another number of axes or channels.
        """
        return self.predict(self.normalize(self.resize(slices))).as_slices(slices.shape[-2:])

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` makes of the network, as in MONAI's ``ckpt_export`` and in its Model Zoo: a trace.

        Any batch, slices of 1 or 3 channels and of this network's own size. The text anchors become constants.
        """
        example = torch.zeros(2, 3, self.image_size, self.image_size, device=self.mean.device)
        with torch.no_grad():
            return _Traced(torch.jit.trace(self, example, check_trace=False))

    def resize(self, slices: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, 3, S, S) in [0, 1], float32: bicubic with antialiasing, as PIL does.

        Args:
            slices: (B, C, H, W) in [0, 1], with 1 or 3 channels.

        Returns:
            (B, 3, S, S) in [0, 1], float32.

        Raises:
            ConfigurationError: for another shape.
        """
        if slices.ndim != 4 or slices.shape[1] not in (1, 3):
            raise ConfigurationError(
                f"slices have shape {tuple(slices.shape)}; needed (B, C, H, W) with 1 or 3 channels"
            )
        size = (self.image_size, self.image_size)
        images = slices.float()
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        return images.expand(-1, 3, -1, -1)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise images in [0, 1] with CLIP's mean and standard deviation.

        Args:
            images: (B, 3, S, S) in [0, 1].

        Returns:
            (B, 3, S, S).
        """
        return (images - self.mean.float()) / self.std.float()

    def denormalize(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images back to images in [0, 1], clamped.

        Args:
            images: (B, 3, S, S), normalised.

        Returns:
            (B, 3, S, S) in [0, 1].
        """
        return (images.float() * self.std.float() + self.mean.float()).clamp(0, 1)

    def describe(self) -> dict[str, Any]:
        """Method, options, sizes, runtime, prompts and weights as plain values, without paths of this machine."""
        prompts = getattr(self, "prompts", None)
        return {
            "method": type(self).__name__,
            "options": self._options(),
            "prompts": None if prompts is None else prompts.fingerprint(),
            "architecture": self.clip.architecture,
            "activation": self.clip.activation,
            "image_size": self.image_size,
            "runtime": self.runtime,
            **({} if self.runtime_file is None else {"runtime_file": self.runtime_file}),
            "precision": self.runtime_precision or str(self.clip.vision_dtype).removeprefix("torch."),
            "weights": {part: dataclasses.asdict(record) for part, record in self.records.items()},
            **({"head": self.head} if self.head else {}),
        }

    def _options(self) -> dict[str, Any]:
        """Options of the method besides sizes and prompts, as plain values."""
        return {}

    def set_precision(self, precision: str | torch.dtype) -> None:
        """Set the precision of the vision towers. Text anchors, similarities and maps stay in float32.

        Args:
            precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or the torch type.

        Raises:
            ConfigurationError: for another type.
        """
        dtype = getattr(torch, precision, None) if isinstance(precision, str) else precision
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ConfigurationError(f"precision={precision!r}: choose float32, bfloat16 or float16")
        for tower in self._towers():
            tower.to(dtype)

    def speed_up(self) -> None:
        """Change the network so that it gives the same in less time. Afterwards it is for inference only.

        Most networks have nothing to change.
        """

    def _towers(self) -> list[nn.Module]:
        """Parts that compute in the chosen precision."""
        return [self.clip.visual]

    def portable_state_dict(self) -> dict[str, torch.Tensor]:
        """State dict that can be loaded at every input size (see :meth:`CLIPBackbone.portable_state_dict`)."""
        state = dict(self.state_dict())
        for name, part in self.named_children():
            portable = getattr(part, "portable_state_dict", None)
            if portable is not None:
                state |= {f"{name}.{key}": value for key, value in portable().items()}
        return state


class _Traced(nn.Module):
    """TorchScript compiles a module that holds a trace, but not a trace itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """(B, C, S, S) to (B, 2 or 3, S, S)."""
        pred: torch.Tensor = self.network(slices)
        return pred


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Switch autocast off: similarities divided by a temperature of 0.07 and the smoothing of maps need float32."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()
