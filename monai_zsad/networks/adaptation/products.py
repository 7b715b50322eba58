"""Products with matrices that are nearly of low rank."""

from __future__ import annotations

import torch

__all__ = ["LowRankProduct", "rough_type"]

_CAPABILITIES = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
_HAS_BFLOAT16 = torch.backends.mkldnn.is_available() and any(map(_CAPABILITIES.get, ("avx512_bf16", "amx_bf16")))


class LowRankProduct:
    """Products with a matrix M that is nearly of low rank.

    M is split into a few directions, multiplied exactly, and a small rest. The rest is so small that its products can
    be rounded to bfloat16: the error is about that of float32 for M itself. The directions are found as in a randomised
    singular value decomposition.

    Args:
        matrix: M (B, k, m); it is overwritten.
        probes: rows of random numbers, at least k in each.
        rough: type for the rest. With the type of M, there is no split.
    """

    def __init__(self, matrix: torch.Tensor, probes: torch.Tensor, rough: torch.dtype) -> None:
        self.split = rough != matrix.dtype
        self.rest = matrix
        if self.split:
            # Narrow matrices stand on the left. On the right, the product takes six times as long.
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


def rough_type(like: torch.Tensor) -> torch.dtype:
    """bfloat16 for float32 on a processor that can multiply it, otherwise the type of ``like``."""
    bfloat16 = _HAS_BFLOAT16 and like.device.type == "cpu" and like.dtype == torch.float32
    return torch.bfloat16 if bfloat16 else like.dtype
