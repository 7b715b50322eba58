"""AnoCLIP's test-time adaptation: a small adapter trained afresh on the patch tokens of every slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks.maps import l2_normalize

__all__ = ["Adaptation", "TestTimeAdaptation", "adapt_tokens"]


@dataclass(frozen=True)
class TestTimeAdaptation:
    """Settings of the adaptation; the defaults are the release's.

    Every slice starts from the same adapter and sees the same noise, both drawn from ``seed``, so a slice's result
    depends neither on its batch nor on the slices before it.

    Args:
        steps: AdamW steps on each slice.
        learning_rate: of AdamW.
        noise_std: standard deviation of the noise added to the tokens.
        weight_decay: of AdamW.
        seed: of the adapter's start and the noise.

    >>> TestTimeAdaptation(steps=3).noise_std
    0.055
    """

    __test__ = False  # not a test case, whatever its name begins with

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
        """PyTorch's default initialisation of a linear layer: weight (prompts, width) and bias (prompts,)."""
        generator = torch.Generator().manual_seed(self.seed)
        bound = width**-0.5
        weight = torch.empty(prompts, width).uniform_(-bound, bound, generator=generator)
        return weight, torch.empty(prompts).uniform_(-bound, bound, generator=generator)

    def noise(self, tokens: int, width: int) -> torch.Tensor:
        """Noise of all steps, (steps, tokens, width)."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        return self.noise_std * torch.randn(self.steps, tokens, width, generator=generator)


class Adaptation(NamedTuple):
    """What the adaptation gives.

    Attributes:
        tokens: adapted clean tokens (B, N, D).
        losses: of each step and slice, (steps, B).
        weight: adapters' weights after the last step (B, n, D).
    """

    tokens: torch.Tensor
    losses: torch.Tensor
    weight: torch.Tensor


def adapt_tokens(
    tokens: torch.Tensor,
    prompts: torch.Tensor,
    anchors: torch.Tensor,
    settings: TestTimeAdaptation,
    *,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
    noise: torch.Tensor | None = None,
) -> Adaptation:
    """Adapt the patch tokens of a batch of slices, each with an adapter of its own.

    ``adapted(f) = (f + tanh(W l2(f) + b) P) / 2``. The slices' adapters are trained side by side as one batched
    product: AdamW works element by element and the loss is a sum over slices, so each does what it would do alone.
    Gradients are needed whatever mode the caller is in, ``inference_mode`` included.

    Args:
        tokens: f0 (B, N, D), as projected, not normalised.
        prompts: P (n, D), l2-normalised features of all prompts, normal ones first.
        anchors: (2, D), l2-normalised, normal first.
        settings: steps, learning rate, noise, seed.
        start: weight (n, D) and bias (n,) of the adapter; ``None`` draws them.
        noise: (steps, N, D); ``None`` draws it.

    References:
        Deng et al., "AnoVL" (later AnoCLIP), arXiv 2308.15939, section on test-time adaptation.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # Clones: tensors made in inference mode cannot take part in a backward pass.
        f0, p, t = (x.detach().float().clone() for x in (tokens, prompts, anchors))
        batch, count, width = f0.shape
        weight0, bias0 = start if start is not None else settings.start(len(p), width)
        drawn = noise if noise is not None else settings.noise(count, width)
        weight = weight0.to(f0).expand(batch, -1, -1).clone().requires_grad_()
        bias = bias0.to(f0).expand(batch, -1).clone().requires_grad_()
        optimizer = torch.optim.AdamW([weight, bias], lr=settings.learning_rate, weight_decay=settings.weight_decay)
        losses = []
        for step_noise in drawn.to(f0):
            both = torch.cat([f0, f0 + step_noise], dim=1)
            log_p = _log_probability(_adapted(both, weight, bias, p), t)
            clean, noisy = log_p[:, :count], log_p[:, count:]
            entropy = -(clean.exp() * clean).sum(-1).mean(-1)
            contrast = (-noisy[..., 1] - clean[..., 0]).mean(-1)
            loss = entropy + 0.5 * contrast
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            losses.append(loss.detach())
        with torch.no_grad():
            return Adaptation(_adapted(f0, weight, bias, p), torch.stack(losses), weight.detach())


def _adapted(f: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    hidden = torch.baddbmm(bias.unsqueeze(1), l2_normalize(f), weight.transpose(1, 2)).tanh()
    return 0.5 * f + 0.5 * (hidden @ prompts)


def _log_probability(f: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(l2_normalize(f) @ anchors.T, dim=-1)
