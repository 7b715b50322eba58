"""Small networks that keep the contract: (N, C, H, W) to (N, 2 or 3, H, W), map, score and unfamiliarity."""

from __future__ import annotations

import torch


class Brightness(torch.nn.Module):
    """Map: mean of the channels. Score: the slice's maximum. Records what it was shown."""

    def __init__(self, image_size: int = 32, patch_size: int = 8) -> None:
        super().__init__()
        self.image_size = image_size
        self.patch_size = patch_size
        self.seen: list[torch.Tensor] = []

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        self.seen.append(slices.clone())
        score = slices.amax((1, 2, 3), keepdim=True).expand(-1, 1, *slices.shape[-2:])
        return torch.cat([slices.mean(1, keepdim=True), score], dim=1)

    @property
    def calls(self) -> int:
        return len(self.seen)

    @property
    def count(self) -> int:
        return sum(len(batch) for batch in self.seen)


class Telling(Brightness):
    """Adds a third channel, the unfamiliarity: ten times the mean of the slice or window."""

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        told = 10 * slices.mean((1, 2, 3), keepdim=True).expand(-1, 1, *slices.shape[-2:])
        return torch.cat([super().forward(slices), told], dim=1)


class Textured(torch.nn.Module):
    """A map that depends on neighbouring pixels and on the place in the slice or window, with parameters."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.kernel = torch.nn.Parameter(torch.randn(1, channels, 5, 5, generator=generator) / 5)

    def forward(self, slices: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        ramp = torch.linspace(0, 1, slices.shape[-1], device=slices.device)
        maps = torch.sigmoid(gain * torch.nn.functional.conv2d(slices, self.kernel, padding=2) + ramp)
        return torch.cat([maps, maps.amax((2, 3), keepdim=True).expand_as(maps)], dim=1)
