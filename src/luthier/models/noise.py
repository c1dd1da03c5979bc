"""NEFTune: noise on the embeddings of a step that is trained.

T: tokens of the row.  D: hidden size.  The noise is a function of seed, step, sample, position and
column, as dropout is, so that no cut into micro-batches and no number of ranks moves it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from luthier.kernels.dropout import TokenKeys, module_number, uniform

_NUMBER = module_number("embedding noise")


class EmbeddingNoise:
    """Adds uniform noise of size alpha / sqrt(L D) to what an embedding gives, L a sequence's tokens.

    Args:
        embedding: Of a model; a hook of its own is put on it.
        alpha: Size, > 0; the paper uses 5 to 15.

    Source: Jain et al. 2023, https://arxiv.org/abs/2310.05914, algorithm 1.
    """

    def __init__(self, embedding: nn.Module, alpha: float) -> None:
        self._alpha, self._keys = alpha, TokenKeys()
        self._length_T: Tensor | None = None
        embedding.register_forward_hook(self._add)

    def clear(self) -> None:
        """No noise from here on: an evaluation, or generation."""
        self._length_T = None

    def set(self, *, seed: int, step: int, sample_T: Tensor, position_T: Tensor) -> None:
        """Take the tokens of the coming forward pass; arguments as those of `TokenKeys.set`."""
        self._keys.set(seed=seed, step=step, sample_T=sample_T, position_T=position_T)
        _, owner_T, counts = np.unique(
            sample_T.cpu().numpy(), return_inverse=True, return_counts=True
        )
        lengths: NDArray[np.int64] = counts[owner_T]
        self._length_T = torch.from_numpy(lengths).to(sample_T.device)

    def _add(self, module: nn.Module, args: object, out: Tensor) -> Tensor | None:
        if self._length_T is None:
            return None
        width = out.shape[-1]
        size_T = self._alpha / torch.sqrt(self._length_T.float() * width)
        noise_TD = uniform(self._keys.of_module(_NUMBER), width) * size_T[:, None]
        return out + noise_TD.to(out.dtype).view(out.shape)
