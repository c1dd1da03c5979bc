"""The attention function under the name that transformers knows it by.

The model is called with `tree=layout`, which transformers hands through to every layer.  A mask
would be wrong here (it knows nothing of the tree), so the mask function of the same name gives
None, and the attention refuses to run without its tree: generation uses the model's own `sdpa`.
"""

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from luthier.errors import ArchitectureError
from luthier.kernels.attention.choice import Choice, choose
from luthier.kernels.attention.layout import TreeLayout
from luthier.kernels.attention.levels import level_attention
from luthier.kernels.attention.node_loop import node_loop_attention
from luthier.kernels.attention.tree import Ask, tree_attention

ATTENTION = "luthier_tree"
"""The name to load a model with: `attn_implementation=ATTENTION`."""

_UNKNOWN = ("s_aux", "position_bias", "head_mask", "indices")
"""Arguments of other families that change the result; ignoring one would train another model."""


def register() -> None:
    """Make the name known to transformers; calling it again changes nothing."""
    AttentionInterface.register(ATTENTION, tree_attention_forward)
    AttentionMaskInterface.register(ATTENTION, no_mask)


def tree_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    sliding_window: int | None = None,
    softcap: float | None = None,
    tree: TreeLayout | None = None,
    is_causal: bool | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attention as a transformers model calls it, over the prefix tree of the micro-batch.

    Args:
        module: The attention layer; nothing is read from it but whether it is causal.
        query: (1, H, T, D).
        key: (1, K, T, D), H a multiple of K.
        value: (1, K, T, D).
        attention_mask: None.
        scaling: Of the scores; 1 / sqrt(D) if None.
        dropout: 0; a base model's own dropout is off in luthier.
        sliding_window: Tokens seen, the query's own included.
        softcap: c of c * tanh(score / c).
        tree: Of this micro-batch, T rows.
        is_causal: Not False.

    Returns:
        (1, T, H, D), and no weights.

    Raises:
        AssertionError: A promise of ours is broken: no tree, another number of rows, a mask, dropout.
        ArchitectureError: The layer asks for something that is not written here.
    """
    _keep_promises(query, tree, attention_mask, dropout)
    assert tree is not None  # narrowed for the type checker; raised above
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    if refused := [name for name in _UNKNOWN if others.get(name) is not None]:
        raise _refusal(module, f"its attention takes {', '.join(refused)}")
    if not causal:
        raise _refusal(module, "its attention is not causal")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(
        query, key, value, tree, scale=scale, window=sliding_window, softcap=softcap
    ), None


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tree: TreeLayout,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention of every row to its path, in the form that `choose` names: (1, T, H, D)."""
    window = window if tree.cuts(window) else None
    kernel = _choose(q, v, window, softcap).kernel
    if kernel == "levels":
        return level_attention(q, k, v, tree, scale=scale, window=window)
    if kernel == "node loop":
        return node_loop_attention(q, k, v, tree, scale=scale, window=window)
    plain = softcap is not None or v.shape[-1] != q.shape[-1]
    return tree_attention(q, k, v, Ask(tree, scale, window, softcap, plain))


def _choose(q: Tensor, v: Tensor, window: int | None, softcap: float | None) -> Choice:
    return choose(
        device=q.device,
        dtype=q.dtype,
        head_width=q.shape[-1],
        value_width=v.shape[-1],
        softcap=softcap,
        windowed=window is not None,
    )


def no_mask(*, config: object = None, local_size: int | None = None, **_: object) -> None:
    """Stand where transformers would build a T x T mask.

    Raises:
        ArchitectureError: The layers see chunks of the text, which only a mask would tell them.
    """
    chunk = getattr(config, "attention_chunk_size", None)
    if chunk is not None and local_size == chunk:
        raise ArchitectureError(
            f"attention_chunk_size {chunk} of {type(config).__name__} cannot be packed",
            why="chunked attention is known to the mask alone, and a packed row has no mask",
            fix="choose a model of another family; luthier gallery list",
        )


def _keep_promises(
    query: Tensor, tree: TreeLayout | None, mask: Tensor | None, dropout: float
) -> None:
    """Raise even under `python -O`: attention without its tree trains on leaked context."""
    batch, _, tokens, _ = query.shape
    broken = None
    if tree is None:
        broken = f"{ATTENTION} attention was called without tree=TreeLayout"
    elif (batch, tokens) != (1, tree.num_tokens):
        broken = f"the tree has (1, {tree.num_tokens}) rows and the queries ({batch}, {tokens})"
    elif mask is not None:
        broken = f"{ATTENTION} attention was given a mask of shape {tuple(mask.shape)}"
    elif dropout:
        broken = f"attention dropout is {dropout}; the base model's own dropout must be 0"
    if broken:
        raise AssertionError(broken)


def _refusal(module: nn.Module, because: str) -> ArchitectureError:
    return ArchitectureError(
        f"{type(module).__name__} cannot be packed: {because}",
        why="luthier's attention would ignore it and train a different model",
        fix="choose a model of another family; luthier gallery list",
    )
