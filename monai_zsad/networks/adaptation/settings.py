"""Settings and result of the test-time adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from monai_zsad.errors import ConfigurationError

__all__ = ["Adaptation", "TestTimeAdaptation"]


@dataclass(frozen=True)
class TestTimeAdaptation:
    """Settings of the adaptation. The defaults are those of the release.

    Every slice starts with the same adapter and the same noise, both drawn from ``seed``. So the result of a slice
    depends neither on its batch nor on the slices before it.

    Args:
        steps: number of AdamW steps on each slice.
        learning_rate: learning rate of AdamW.
        noise_std: standard deviation of the noise that is added to the tokens.
        weight_decay: weight decay of AdamW.
        seed: seed of the adapter's initial values and of the noise.

    Raises:
        ConfigurationError: if a value is out of its range.

    >>> TestTimeAdaptation(steps=3).noise_std
    0.055
    """

    __test__ = False  # pytest would take the class for a test case

    steps: int = 5
    learning_rate: float = 1e-3
    noise_std: float = 0.055
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.learning_rate <= 0 or self.noise_std < 0 or self.weight_decay < 0:
            raise ConfigurationError(
                f"{self}: steps must be at least 1, learning_rate above 0, noise_std and weight_decay at least 0"
            )

    def start(self, prompts: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """PyTorch's default initialisation of a linear layer: weight (prompts, width) and bias (prompts,).

        Args:
            prompts: number of rows of the layer.
            width: number of columns.

        Returns:
            Weight and bias.
        """
        generator = torch.Generator().manual_seed(self.seed)
        bound = width**-0.5
        weight = torch.empty(prompts, width).uniform_(-bound, bound, generator=generator)
        return weight, torch.empty(prompts).uniform_(-bound, bound, generator=generator)

    def noise(self, tokens: int, width: int) -> torch.Tensor:
        """Noise of all steps, (steps, tokens, width).

        Args:
            tokens: number of tokens of a slice.
            width: width of a token.

        Returns:
            (steps, tokens, width).
        """
        generator = torch.Generator().manual_seed(self.seed + 1)
        return self.noise_std * torch.randn(self.steps, tokens, width, generator=generator)


class Adaptation(NamedTuple):
    """Result of the adaptation.

    Attributes:
        tokens: adapted tokens without noise (B, N, D).
        losses: losses of each step and slice, (steps, B).
        weight: weights of the adapters after the last step (B, n, D).
    """

    tokens: torch.Tensor
    losses: torch.Tensor
    weight: torch.Tensor
