"""AnoCLIP's test-time adaptation: a small adapter trained afresh on the patch tokens of every slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.optim.adamw import adamw

from monai_zsad.errors import ConfigurationError

__all__ = ["Adaptation", "TestTimeAdaptation", "TokenAdapter", "adapt_tokens"]

_CAPABILITIES = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
_HAS_BFLOAT16 = torch.backends.mkldnn.is_available() and any(map(_CAPABILITIES.get, ("avx512_bf16", "amx_bf16")))
TINY = 1e-12  # the smallest length that divides, as in `torch.nn.functional.normalize`
SHARED_DIRECTIONS = 16  # kept in float32 by `_Gram`; 8 are as exact


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
        """PyTorch's default initialisation of a linear layer: weight (prompts, width) and bias (prompts,).

        Args:
            prompts: rows of the layer.
            width: its columns.

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
            tokens: of a slice.
            width: of a token.

        Returns:
            (steps, tokens, width).
        """
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
    """Adapt tokens (B, N, D) once; keep a :class:`TokenAdapter`, which has the other arguments, for many batches."""
    return TokenAdapter(prompts, anchors, settings, tokens.shape[1], start=start, noise=noise)(tokens)


class TokenAdapter:
    """Adapts the patch tokens of slices, each with an adapter of its own; holds what all slices share.

    A token f becomes ``(f + h P) / 2`` with ``h = tanh(W x + b)`` and ``x = f / |f|``. Of ``c = f + h P`` only the
    direction counts and, the softmax being one over two anchors, of its similarities only the difference d. With
    ``u = t_abnormal - t_normal`` and ``G = P P^T``::

        d = c.u / |c|        c.u = f.u + h.Pu        |c|^2 = |f|^2 + h.(Pf + Pc)        Pc = Pf + G h
        p = sigmoid(d)       loss = mean of  entropy(p_clean) - (log(1 - p_clean) + log p_noisy) / 2
        dd/dh = Pu / |c| - d Pc / |c|^2

    The gradient is written out because a recorded graph takes twice as long: ``G h`` serves length and gradient,
    ``Pf`` all steps, products with the noise all slices, and no step allocates large memory. So any mode of the caller
    will do, ``inference_mode`` included.

    Args:
        prompts: P (n, D), l2-normalised features of all prompts, normal ones first.
        anchors: (2, D), l2-normalised, normal first.
        settings: steps, learning rate, noise, seed.
        count: tokens N of a slice.
        start: weight W (n, D) and bias b (n,) of the adapter; ``None`` draws them.
        noise: (steps, N, D); ``None`` draws it.

    Arithmetic is in float32, or in float64 if the prompts are; see `_Gram` for a part in bfloat16.

    References:
        Deng et al., "AnoVL" (later AnoCLIP), arXiv 2308.15939, section on test-time adaptation.
    """

    @torch.no_grad()
    def __init__(
        self,
        prompts: torch.Tensor,
        anchors: torch.Tensor,
        settings: TestTimeAdaptation,
        count: int,
        *,
        start: tuple[torch.Tensor, torch.Tensor] | None = None,
        noise: torch.Tensor | None = None,
    ) -> None:
        # Copies: `fits` compares them with buffers that may have changed in place.
        self.prompts = prompts.to(torch.promote_types(prompts.dtype, torch.float32), copy=True)
        self.anchors = anchors.to(self.prompts, copy=True)
        self.settings = settings
        weight, bias = settings.start(*prompts.shape) if start is None else start
        drawn = settings.noise(count, prompts.shape[1]) if noise is None else noise
        self.weight, self.bias, self.noise = (tensor.to(self.prompts) for tensor in (weight, bias, drawn))
        self.contrast = self.anchors[1] - self.anchors[0]
        self.prompt_contrast = self.prompts @ self.contrast
        self.prompt_noise = self.noise @ self.prompts.T
        self.weight_noise = self.noise @ self.weight.T
        self.gram = _Gram(self.prompts)
        self.rough_noise = self.noise.bfloat16() if self.gram.split else None

    def fits(self, prompts: torch.Tensor, anchors: torch.Tensor, settings: TestTimeAdaptation, count: int) -> bool:
        """Whether an adapter made from these arguments alone would be this one."""
        return (
            (self.settings, self.noise.shape[1], self.prompts.device) == (settings, count, prompts.device)
            and torch.equal(self.prompts, prompts.to(self.prompts))
            and torch.equal(self.anchors, anchors.to(self.anchors))
        )

    @torch.no_grad()
    def __call__(self, tokens: torch.Tensor) -> Adaptation:
        """Adapt the tokens f (B, N, D) of a batch of slices, as projected, not normalised."""
        f = tokens.to(self.prompts)
        weight, bias = self.weight.repeat(len(f), 1, 1), self.bias.repeat(len(f), 1, 1)
        adapted, losses = torch.empty_like(f), f.new_empty(len(f), len(self.noise))
        # One slice at a time stays in a CPU's cache; an accelerator wants all at once.
        size = 1 if f.device.type == "cpu" else max(len(f), 1)
        training = _Training(self, min(size, len(f)))
        for part in zip(*(tensor.split(size) for tensor in (f, weight, bias, adapted, losses)), strict=True):
            training.run(*part)
        return Adaptation(adapted, losses.T, weight)


class _Gram:
    """Products with ``G = P P^T``, the largest of a step.

    Sentences have most in common, so a few directions make up nearly all of G. What is left is so small that rounding
    its products to bfloat16 matters about as little as that of the whole to float32, and takes half the time where the
    processor multiplies bfloat16. The split is made there, and nowhere else.
    """

    def __init__(self, prompts: torch.Tensor, *, bfloat16: bool | None = None) -> None:
        self.whole = prompts @ prompts.T
        self.split = _multiplies_bfloat16(prompts) if bfloat16 is None else bfloat16
        if self.split:
            values, vectors = torch.linalg.eigh(self.whole)
            self.shared = vectors[:, -SHARED_DIRECTIONS:] * values[-SHARED_DIRECTIONS:].clamp_min(0).sqrt()
            self.rest = (self.whole - self.shared @ self.shared.T).bfloat16()

    def add_product(self, other: torch.Tensor, h: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        """``other + h G``, each (B, M, n)."""
        if not self.split:
            return torch.baddbmm(other, h, self.whole.expand(len(h), -1, -1), out=out)
        torch.add(other, h.bfloat16() @ self.rest, out=out)
        return out.baddbmm_(h @ self.shared, self.shared.T.expand(len(h), -1, -1))


def _multiplies_bfloat16(like: torch.Tensor) -> bool:
    return _HAS_BFLOAT16 and like.device.type == "cpu" and like.dtype == torch.float32


class _Training:
    """Trains the adapters of some slices side by side, in buffers that the next slices use again.

    Along the buffers' second axis lie the N clean tokens of a slice, then its N noisy ones.
    """

    def __init__(self, shared: TokenAdapter, slices: int) -> None:
        _, count, width = shared.noise.shape
        prompts, rows, empty = len(shared.prompts), 2 * count, shared.prompts.new_empty
        self.shared, self.clean, self.noisy = shared, slice(count), slice(count, None)
        self.x = empty(slices, rows, width)
        self.f_length, self.f_contrast = empty(slices, rows), empty(slices, rows)
        self.pf, self.h, self.pc, self.work = (empty(slices, rows, prompts) for _ in range(4))
        shapes = (slices, prompts, width), (slices, 1, prompts)
        self.gradients, self.means, self.squares = ([empty(shape) for shape in shapes] for _ in range(3))

    def run(
        self, f: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, adapted: torch.Tensor, losses: torch.Tensor
    ) -> None:
        """Train weight (B, n, D) and bias (B, 1, n) on f (B, N, D); fill adapted (B, N, D) and losses (B, steps)."""
        shared, settings = self.shared, self.shared.settings
        prompts, clean, noisy = shared.prompts.expand(len(f), -1, -1), self.clean, self.noisy
        for moment in (*self.means, *self.squares):
            moment.zero_()
        counts = list(torch.zeros(2, device=f.device))
        self._place(f, clean)
        torch.bmm(f, prompts.mT, out=self.pf[:, clean])
        for step, noise in enumerate(shared.noise):
            self._place(f + noise, noisy)
            torch.add(self.pf[:, clean], shared.prompt_noise[step], out=self.pf[:, noisy])
            losses[:, step] = self._differentiate(self._hidden(f, weight, bias, step))
            adamw(
                [weight, bias], self.gradients, self.means, self.squares, [], counts,
                fused=True, amsgrad=False, maximize=False, beta1=0.9, beta2=0.999, eps=1e-8,
                lr=settings.learning_rate, weight_decay=settings.weight_decay,
            )  # fmt: skip
        h = _hidden(self.x[:, clean], weight, bias, out=self.h[:, clean])
        torch.baddbmm(f, h, prompts, beta=0.5, alpha=0.5, out=adapted)

    def _place(self, f: torch.Tensor, where: slice) -> None:
        length = torch.linalg.vector_norm(f, dim=-1)
        self.f_length[:, where] = length
        self.f_contrast[:, where] = f @ self.shared.contrast
        torch.div(f, length.clamp_min(TINY).unsqueeze(-1), out=self.x[:, where])

    def _hidden(self, f: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, step: int) -> torch.Tensor:
        """``h`` of all rows.

        The start's product with the noise is that of all slices. What the steps add to the weight is small and
        so is the noise: their product bears bfloat16 as what is left of G does.
        """
        shared = self.shared
        if step and shared.rough_noise is None:
            return _hidden(self.x, weight, bias, out=self.h)
        fw = torch.bmm(f, weight.mT, out=self.h[:, self.clean])
        noisy = torch.add(fw, shared.weight_noise[step], out=self.h[:, self.noisy])
        if step and shared.rough_noise is not None:
            noisy += shared.rough_noise[step] @ (weight - shared.weight).bfloat16().mT
        double = (2 / self.f_length.clamp_min(TINY)).unsqueeze(-1)
        return _tanh_(torch.addcmul(2 * bias, self.h, double, out=self.h))

    def _differentiate(self, h: torch.Tensor) -> torch.Tensor:
        """Losses (B,) of h (B, 2N, n), and their gradients by weight and bias into ``gradients``."""
        pu = self.shared.prompt_contrast
        pc = self.shared.gram.add_product(self.pf, h, out=self.pc)
        square = self.f_length.square() + torch.add(self.pf, pc, out=self.work).mul_(h).sum(-1)
        length = square.clamp_min(TINY**2).sqrt()
        d = (self.f_contrast + h @ pu) / length
        losses, slope = _losses_and_slope(d)
        by_pu, by_pc = (slope / length).unsqueeze(-1), (slope * d / length.square()).unsqueeze(-1)
        by_h = torch.mul(pc, -by_pc, out=self.work).addcmul_(by_pu, pu)
        by_z = torch.ops.aten.tanh_backward.grad_input(by_h, h, grad_input=by_h)
        torch.bmm(by_z.mT, self.x, out=self.gradients[0])
        torch.sum(by_z, dim=1, keepdim=True, out=self.gradients[1])
        return losses


def _hidden(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
    return _tanh_(torch.baddbmm(bias, x, weight.mT, beta=2, alpha=2, out=out))


def _tanh_(double: torch.Tensor) -> torch.Tensor:
    # tanh(z) = 2 sigmoid(2 z) - 1 from 2 z, in a quarter of the time of PyTorch's tanh; one pass for both numbers.
    return torch.add(double.new_tensor(-1.0), double.sigmoid_(), alpha=2, out=double)


def _losses_and_slope(d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses (B,) of the differences d (B, 2N), clean then noisy, and their derivative by d."""
    clean, noisy = d.chunk(2, dim=1)
    p = torch.sigmoid(clean)
    # entropy(p) = softplus(d) - d p, -log(1 - p) = softplus(d), -log p = softplus(-d)
    losses = (1.5 * F.softplus(clean) - clean * p + 0.5 * F.softplus(-noisy)).mean(1)
    slopes = [p * (0.5 - clean * (1 - p)), -0.5 * torch.sigmoid(-noisy)]
    return losses, torch.cat(slopes, dim=1) / clean.shape[1]
