"""AnoCLIP's test-time adaptation: every slice trains a small adapter of its patch tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.optim.adamw import adamw

from monai_zsad.networks.adaptation.products import LowRankProduct, rough_type
from monai_zsad.networks.adaptation.settings import Adaptation, TestTimeAdaptation

__all__ = ["TokenAdapter", "adapt_tokens"]

_TINY = 1e-12  # smallest divisor of a length, as in `torch.nn.functional.normalize`
# Directions that `LowRankProduct` multiplies exactly, for a matrix of one step and for the matrix of the prompts.
_DIRECTIONS, _PROMPT_DIRECTIONS = 8, 16


def adapt_tokens(
    tokens: torch.Tensor,
    prompts: torch.Tensor,
    anchors: torch.Tensor,
    settings: TestTimeAdaptation,
    *,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
    noise: torch.Tensor | None = None,
) -> Adaptation:
    """Adapt tokens (B, N, D) of one batch. For many batches, keep a :class:`TokenAdapter`.

    Args:
        tokens: (B, N, D), as projected, not normalised.
        prompts: see :class:`TokenAdapter`, also for the following arguments.
        anchors: (2, D).
        settings: settings of the adaptation.
        start: initial weight and bias of the adapter.
        noise: noise of all steps.

    Returns:
        Adapted tokens, losses and weights.
    """
    return TokenAdapter(prompts, anchors, settings, tokens.shape[1], start=start, noise=noise)(tokens)


class TokenAdapter:
    """Adapts the patch tokens of slices, each slice with its own adapter. It holds what all slices share.

    A token f becomes ``(f + h P) / 2`` with ``h = tanh(W x + b)`` and ``x = f / |f|``. The loss depends only on the
    direction of ``c = f + h P``. Since the softmax has two anchors, it depends only on the difference d of the two
    similarities. With ``u = t_abnormal - t_normal`` and ``G = P P^T``::

        d = c.u / |c|        c.u = f.u + h.Pu        |c|^2 = |f|^2 + h.(Pf + Pc)        Pc = Pf + G h
        p = sigmoid(d)       loss = mean of  entropy(p_clean) - (log(1 - p_clean) + log p_noisy) / 2
        dd/dh = Pu / |c| - d Pc / |c|^2

    The gradient is written out, because autograd takes twice as long: here ``G h`` serves for length and gradient, the
    products of a slice with P and with the first W serve for all steps, and those of the noise serve for all slices.
    It works in every gradient mode of the caller, ``inference_mode`` included.

    Args:
        prompts: P (n, D), l2-normalised features of all prompts, normal ones first.
        anchors: (2, D), l2-normalised, normal first.
        settings: steps, learning rate, noise, seed.
        count: number N of tokens of a slice.
        start: initial weight W (n, D) and bias b (n,) of the adapter; ``None`` draws them.
        noise: (steps, N, D); ``None`` draws it.
        rough: type of the products of small numbers. ``None``: bfloat16 on a processor that can multiply it, which
            halves the time; on other processors, the type of all other products.

    All other arithmetic is in float32, or in float64 if the prompts are in float64. `LowRankProduct` splits three
    matrices that are nearly of low rank: G, because the sentences are similar; the change of W by the steps; and the
    derivative of the loss by W f, because the softmax without a temperature is nearly flat.

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
        # Copies, because `fits` compares them with buffers that may have changed in place.
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
        self.rough = rough_type(self.prompts) if rough is None else rough
        size = max(count, *self.prompts.shape)
        self.probes = torch.randn(_PROMPT_DIRECTIONS, size, generator=torch.Generator().manual_seed(0)).to(self.prompts)
        self.gram = self.product((self.prompts @ self.prompts.T).unsqueeze(0), _PROMPT_DIRECTIONS)

    def product(self, matrix: torch.Tensor, directions: int = _DIRECTIONS) -> LowRankProduct:
        """Products with a matrix (B, k, m), which is overwritten."""
        return LowRankProduct(matrix, self.probes[:directions], self.rough)

    def fits(self, prompts: torch.Tensor, anchors: torch.Tensor, settings: TestTimeAdaptation, count: int) -> bool:
        """Whether a new adapter with only these arguments would equal this one."""
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
        # One slice fits into the cache of a CPU; an accelerator is faster with all slices at once.
        size = 1 if f.device.type == "cpu" else max(len(f), 1)
        training = _Training(self, min(size, len(f)))
        for part in zip(*(tensor.split(size) for tensor in (f, weight, bias, adapted, losses)), strict=True):
            training.run(*part)
        return Adaptation(adapted, losses.T, weight.mT)


class _Training:
    """Trains the adapters of some slices together, in buffers that are used again for the next slices.

    The second axis of the buffers holds the N clean tokens of a slice, then its N noisy ones.
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
        self.f_length[:, where] = torch.linalg.vector_norm(f, dim=-1).clamp_min_(_TINY)
        self.f_contrast[:, where] = f @ self.shared.contrast

    def _differentiate(self, h: torch.Tensor, f: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Losses (B,) of h (B, 2N, n), and their gradients into ``by_weight`` and ``by_bias``."""
        shared, pu = self.shared, self.shared.prompt_contrast
        pc = shared.gram.add(self.pf, h, out=self.pc)
        square = self.f_length.square() + torch.add(self.pf, pc, out=self.work).mul_(h).sum(-1)
        length = square.clamp_min(_TINY**2).sqrt()
        d = (self.f_contrast + h @ pu) / length
        losses, slope = _losses_and_slope(d)
        slope /= length * self.f_length  # from here on the derivative by W f, not by W x
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
    """``tanh(W f / |f| + b)``; it overwrites W f (B, M, n)."""
    # tanh(z) = 2 sigmoid(2 z) - 1 takes a quarter of the time of PyTorch's tanh.
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
