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
DIRECTIONS, PROMPT_DIRECTIONS = 8, 16  # of a matrix, multiplied exactly by `_Product`: of a step's, of all prompts'


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

    The gradient is written out because a recorded graph takes twice as long: ``G h`` serves length and gradient, and a
    slice's products with P and the first W serve all steps, those of the noise with both all slices. So any mode of the
    caller will do, ``inference_mode`` included.

    Args:
        prompts: P (n, D), l2-normalised features of all prompts, normal ones first.
        anchors: (2, D), l2-normalised, normal first.
        settings: steps, learning rate, noise, seed.
        count: tokens N of a slice.
        start: weight W (n, D) and bias b (n,) of the adapter; ``None`` draws them.
        noise: (steps, N, D); ``None`` draws it.
        rough: type of the products of small numbers, which bear rounding; ``None`` for bfloat16 where the processor
            multiplies it, in half the time, else the type of all others.

    All other arithmetic is in float32, or in float64 if the prompts are. Three matrices are nearly of low rank, so that
    `_Product` can split them into few directions and something small: G, because sentences have much in common; what
    the steps add to W; and the loss's derivative by W f, because the softmax, without a temperature, is nearly flat.

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
        rough: torch.dtype | None = None,
    ) -> None:
        # Copies: `fits` compares them with buffers that may have changed in place.
        self.prompts = prompts.to(torch.promote_types(prompts.dtype, torch.float32), copy=True)
        self.anchors = anchors.to(self.prompts, copy=True)
        self.settings = settings
        weight, bias = settings.start(*prompts.shape) if start is None else start
        drawn = settings.noise(count, prompts.shape[1]) if noise is None else noise
        self.weight, self.bias, self.noise = (
            tensor.to(self.prompts) for tensor in (weight.T.contiguous(), bias, drawn)
        )
        self.contrast = self.anchors[1] - self.anchors[0]
        self.prompt_contrast = self.prompts @ self.contrast
        self.prompt_noise = self.noise @ self.prompts.T
        self.weight_noise = self.noise @ self.weight
        self.rough = _rough_type(self.prompts) if rough is None else rough
        size = max(count, *self.prompts.shape)
        self.probes = torch.randn(PROMPT_DIRECTIONS, size, generator=torch.Generator().manual_seed(0)).to(self.prompts)
        self.gram = self.product((self.prompts @ self.prompts.T).unsqueeze(0), PROMPT_DIRECTIONS)

    def product(self, matrix: torch.Tensor, directions: int = DIRECTIONS) -> _Product:
        """Products with a matrix (B, k, m), which is written over."""
        return _Product(matrix, self.probes[:directions], self.rough)

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
        return Adaptation(adapted, losses.T, weight.mT)


class _Product:
    """Products with a matrix M of which a few directions make up nearly all.

    What is left is so small that rounding its products to bfloat16 matters about as little as that of the whole to
    float32. The directions are found as in a randomised singular value decomposition.

    Args:
        matrix: M (B, k, m), written over.
        probes: rows of random numbers, at least k in each.
        rough: type for what is left; that of M makes no split.
    """

    def __init__(self, matrix: torch.Tensor, probes: torch.Tensor, rough: torch.dtype) -> None:
        self.split = rough != matrix.dtype
        self.rest = matrix
        if self.split:
            # Narrow matrices stand on the left: on the right they take six times as long.
            sketch = probes[:, : matrix.shape[1]] @ matrix @ matrix.mT
            self.main = torch.linalg.qr(sketch.mT).Q.mT.contiguous()
            self.along_main = self.main @ matrix
            self.rest = matrix.baddbmm_(self.main.mT, self.along_main, alpha=-1).to(rough)

    def add(self, other: torch.Tensor, rows: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        """``other + rows M``, (B, R, m), of rows (B, R, k)."""
        if not self.split:
            return torch.baddbmm(other, rows, self.rest.expand(len(rows), -1, -1), out=out)
        torch.add(other, torch.bmm(rows.to(self.rest.dtype), self.rest.expand(len(rows), -1, -1)), out=out)
        return out.baddbmm_(
            torch.bmm(self.main.expand(len(rows), -1, -1), rows.mT).mT, self.along_main.expand(len(rows), -1, -1)
        )


def _rough_type(like: torch.Tensor) -> torch.dtype:
    bfloat16 = _HAS_BFLOAT16 and like.device.type == "cpu" and like.dtype == torch.float32
    return torch.bfloat16 if bfloat16 else like.dtype


class _Training:
    """Trains the adapters of some slices side by side, in buffers that the next slices use again.

    Along the buffers' second axis lie the N clean tokens of a slice, then its N noisy ones.
    """

    def __init__(self, shared: TokenAdapter, slices: int) -> None:
        _, count, width = shared.noise.shape
        prompts, rows, empty = len(shared.prompts), 2 * count, shared.prompts.new_empty
        self.shared, self.clean, self.noisy = shared, slice(count), slice(count, None)
        self.f_length, self.f_contrast = empty(slices, rows), empty(slices, rows)
        self.pf, self.h, self.pc, self.work = (empty(slices, rows, prompts) for _ in range(4))
        shapes = (slices, width, prompts), (slices, 1, prompts)
        (self.by_weight, self.by_bias), self.means, self.squares = (
            [empty(shape) for shape in shapes] for _ in range(3)
        )
        self.change = empty(shapes[0])

    def run(
        self, f: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, adapted: torch.Tensor, losses: torch.Tensor
    ) -> None:
        """Train weight (B, D, n) and bias (B, 1, n) on f (B, N, D); fill adapted (B, N, D) and losses (B, steps)."""
        shared, settings, clean, noisy = self.shared, self.shared.settings, self.clean, self.noisy
        prompts, h_clean, h_noisy = shared.prompts.expand(len(f), -1, -1), self.h[:, clean], self.h[:, noisy]
        for moment in (*self.means, *self.squares):
            moment.zero_()
        counts = list(torch.zeros(2, device=f.device))
        self._measure(f, clean)
        torch.bmm(f, prompts.mT, out=self.pf[:, clean])
        wf, learned = torch.bmm(f, weight), None
        h_clean.copy_(wf)
        for step, noise in enumerate(shared.noise):
            self._measure(f + noise, noisy)
            torch.add(self.pf[:, clean], shared.prompt_noise[step], out=self.pf[:, noisy])
            torch.add(h_clean, shared.weight_noise[step], out=h_noisy)
            noise = noise.expand_as(f)
            if learned is not None:
                learned.add(h_noisy, noise, out=h_noisy)
            losses[:, step] = self._differentiate(_tanh_(self.h, bias, self.f_length), f, noise)
            adamw(
                [weight, bias], [self.by_weight, self.by_bias], self.means, self.squares, [], counts,
                fused=True, amsgrad=False, maximize=False, beta1=0.9, beta2=0.999, eps=1e-8,
                lr=settings.learning_rate, weight_decay=settings.weight_decay,
            )  # fmt: skip
            torch.sub(weight, shared.weight, out=self.change)
            learned = shared.product(self.change)
            learned.add(wf, f, out=h_clean)
        _tanh_(h_clean, bias, self.f_length[:, clean])
        torch.baddbmm(f, h_clean, prompts, beta=0.5, alpha=0.5, out=adapted)

    def _measure(self, f: torch.Tensor, where: slice) -> None:
        self.f_length[:, where] = torch.linalg.vector_norm(f, dim=-1).clamp_min_(TINY)
        self.f_contrast[:, where] = f @ self.shared.contrast

    def _differentiate(self, h: torch.Tensor, f: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Losses (B,) of h (B, 2N, n), and their gradients into ``by_weight`` and ``by_bias``."""
        shared, pu = self.shared, self.shared.prompt_contrast
        pc = shared.gram.add(self.pf, h, out=self.pc)
        square = self.f_length.square() + torch.add(self.pf, pc, out=self.work).mul_(h).sum(-1)
        length = square.clamp_min(TINY**2).sqrt()
        d = (self.f_contrast + h @ pu) / length
        losses, slope = _losses_and_slope(d)
        slope /= length * self.f_length  # from here on by W f, not by W x
        by_pu, by_pc = slope.unsqueeze(-1), (slope * d / length).unsqueeze(-1)
        by_h = torch.mul(pc, -by_pc, out=self.work).addcmul_(by_pu, pu)
        by_wf = torch.ops.aten.tanh_backward.grad_input(by_h, h, grad_input=by_h)
        torch.bmm(self.f_length.unsqueeze(1), by_wf, out=self.by_bias)
        clean, noisy = by_wf[:, self.clean], by_wf[:, self.noisy]
        clean += noisy
        self.by_weight.zero_()
        for part, rows in ((clean, f), (noisy, noise)):
            shared.product(part).add(self.by_weight, rows.mT, out=self.by_weight)
        return losses


def _tanh_(wf: torch.Tensor, bias: torch.Tensor, f_length: torch.Tensor) -> torch.Tensor:
    """``tanh(W f / |f| + b)`` in the place of W f (B, M, n)."""
    # tanh(z) = 2 sigmoid(2 z) - 1 from 2 z, in a quarter of the time of PyTorch's tanh; one pass for both numbers.
    double = torch.addcmul(2 * bias, wf, (2 / f_length).unsqueeze(-1), out=wf)
    return torch.add(double.new_tensor(-1.0), double.sigmoid_(), alpha=2, out=double)


def _losses_and_slope(d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses (B,) of the differences d (B, 2N), clean then noisy, and their derivative by d."""
    clean, noisy = d.chunk(2, dim=1)
    p = torch.sigmoid(clean)
    # entropy(p) = softplus(d) - d p, -log(1 - p) = softplus(d), -log p = softplus(-d)
    losses = (1.5 * F.softplus(clean) - clean * p + 0.5 * F.softplus(-noisy)).mean(1)
    slopes = [p * (0.5 - clean * (1 - p)), -0.5 * torch.sigmoid(-noisy)]
    return losses, torch.cat(slopes, dim=1) / clean.shape[1]
