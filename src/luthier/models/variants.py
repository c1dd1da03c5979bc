"""What some adapters have beside A and B: a start from the base's own directions, a magnitude.

R: rank.  I: inputs.  O: outputs.  Everything here is float32 and without gradient.
"""

import torch
from torch import Tensor

EXACT = 1024
"""Largest side of a matrix whose directions are computed exactly; subspace iteration above."""

_ROUNDS, _BESIDE = 8, 16


def principal(weight_OI: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A (R, I) and B (O, R) whose product is the best approximation of a weight at that rank.

    Args:
        generator: Of the first guess, where the side is above `EXACT`; 8 rounds of subspace
            iteration with 16 directions more than asked for.

    Source: Meng et al. 2024 (PiSSA), https://arxiv.org/abs/2404.02948, eq. 2 and 3; subspace
    iteration: Halko et al. 2011, https://arxiv.org/abs/0909.4061, algorithm 4.4.
    """
    weight_OI = weight_OI.float()
    if max(weight_OI.shape) <= EXACT:
        u_OK, s_K, v_KI = torch.linalg.svd(weight_OI, full_matrices=False)
    else:
        columns = min(rank + _BESIDE, *weight_OI.shape)
        guess = torch.randn(weight_OI.shape[1], columns, generator=generator)
        basis_OK = torch.linalg.qr(weight_OI @ guess.to(weight_OI.device)).Q
        for _ in range(_ROUNDS):
            basis_IK = torch.linalg.qr(weight_OI.t() @ basis_OK).Q
            basis_OK = torch.linalg.qr(weight_OI @ basis_IK).Q
        inner_OK, s_K, v_KI = torch.linalg.svd(basis_OK.t() @ weight_OI, full_matrices=False)
        u_OK = basis_OK @ inner_OK
    root_R = s_K[:rank].sqrt()
    return root_R[:, None] * v_KI[:rank], u_OK[:, :rank] * root_R


def row_norms(weight_OI: Tensor, lora_A_RI: Tensor, lora_B_OR: Tensor, scale: float) -> Tensor:
    """Norm of each row of W + scale B A, shape (O,), without making that matrix.

    |w|^2 + 2 scale (W A') . B + scale^2 (B A A') . B, row by row: extra memory is O x R.
    """
    wide_OI = weight_OI.float()
    square_O = torch.linalg.vector_norm(wide_OI, dim=1).square()
    cross_OR = 2 * scale * (wide_OI @ lora_A_RI.t())
    own_OR = scale * scale * (lora_B_OR @ (lora_A_RI @ lora_A_RI.t()))
    norm_O: Tensor = (square_O + ((cross_OR + own_OR) * lora_B_OR).sum(1)).clamp(min=0).sqrt()
    return norm_O
