"""The forms of attention against the dense twin, over random trees; isolation to the bit."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from luthier.data.packing.pack import PackedBatch, pack
from luthier.data.types import Sequence
from luthier.errors import ArchitectureError
from luthier.kernels.attention import ATTENTION, TreeLayout, attend, choose, register
from luthier.kernels.attention import layout as layout_module
from luthier.kernels.attention.dense import dense_attention, dense_mask
from luthier.kernels.attention.interface import no_mask, tree_attention_forward
from luthier.kernels.attention.levels import level_attention
from luthier.kernels.attention.node_loop import node_loop_attention
from luthier.kernels.attention.tree import Ask, tree_attention
from luthier.kernels.planned import planning_for_cuda


def sequence(ids: list[int]) -> Sequence:
    weights = np.ones(len(ids) + 1, dtype=np.float32)
    weights[0] = 0
    return Sequence(np.array([*ids, 1], dtype=np.int32), weights)


def forked(prefix: int, *branches: int, seed: int = 0) -> list[list[int]]:
    """Rows that share `prefix` tokens and then go their own way."""
    rng = np.random.default_rng(seed)
    head = rng.integers(10, 20, prefix).tolist()
    tails = (rng.integers(10, 20, length - 1).tolist() for length in branches)
    return [[*head, 100 + i, *tail] for i, tail in enumerate(tails)]


TREES: dict[str, list[list[int]]] = {
    "one": [[5, 6, 7, 8, 9]],
    "single token": [[5], [6], [7, 8]],
    "roots": forked(0, 3, 17, 40, 9),
    "pair": forked(20, 12, 5),
    "turns": [list(range(10, 10 + n)) for n in (4, 9, 20, 33)],
    "deep": [
        *[[*range(10, 30), *row] for row in forked(6, 7, 5, 1)],
        *[[*range(10, 30), 50, *row] for row in forked(4, 3, 8, seed=1)],
        [7, 8, 9],
    ],
}


def packed(rows: list[list[int]]) -> PackedBatch:
    return pack([sequence(row) for row in rows], min_shared=1)


def tensors(
    tokens: int, *, heads: int = 4, groups: int = 2, width: int = 8, value_width: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(count: int, size: int) -> Tensor:  # strided as the models' are
        return torch.randn(1, tokens, count, size, generator=generator, dtype=torch.float64)

    v_width = value_width or width
    q, k, v = normal(heads, width), normal(groups, width), normal(groups, v_width)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), normal(heads, v_width)


def with_gradients(form: Any, dtype: torch.dtype, *parts: Tensor, **options: Any) -> list[Tensor]:
    *inputs, grad = (part.to(dtype) for part in parts)
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = form(*leaves, **options)
    out.backward(grad)
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def worst(found: list[Tensor], wanted: list[Tensor]) -> float:
    pairs = zip(found, wanted, strict=True)
    # A query that sees itself alone has gradient 0, so the size to compare with has a floor.
    return max(
        ((a.double() - b).abs().max() / b.abs().max().clamp_min(0.1)).item() for a, b in pairs
    )


def plain_tree(q: Tensor, k: Tensor, v: Tensor, tree: TreeLayout, **options: Any) -> Tensor:
    window, softcap = options.get("window"), options.get("softcap")
    window = window if tree.cuts(window) else None
    return tree_attention(q, k, v, Ask(tree, options["scale"], window, softcap, True))


@pytest.mark.parametrize("rows", TREES.values(), ids=TREES)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 1, 6, 30])
@pytest.mark.parametrize("form", [attend, node_loop_attention, level_attention, plain_tree])
def test_every_form_equals_the_dense_twin(
    rows: list[list[int]], groups: int, window: int | None, form: Any
) -> None:
    tree = TreeLayout.from_batch(packed(rows))
    parts = tensors(tree.num_tokens, groups=groups)
    options = {"scale": 0.3, "window": window}

    def on_tree(function: Any) -> Any:
        return lambda q, k, v, **given: function(q, k, v, tree, **given)

    wanted = with_gradients(on_tree(dense_attention), torch.float64, *parts, **options)
    found = with_gradients(on_tree(form), torch.float64, *parts, **options)
    assert worst(found, wanted) < 1e-12


@pytest.mark.parametrize("rows", [TREES["deep"], TREES["roots"]], ids=["deep", "roots"])
@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, 2e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)],
    ids=["float32", "bfloat16", "float16"],
)
def test_the_error_of_each_dtype_is_its_rounding(
    rows: list[list[int]], window: int | None, dtype: torch.dtype, bound: float
) -> None:
    tree = TreeLayout.from_batch(packed(rows))
    parts = [part.to(dtype).double() for part in tensors(tree.num_tokens)]
    options = {"tree": tree, "scale": 0.3, "window": window}
    wanted = with_gradients(with_tree(dense_attention), torch.float64, *parts, **options)
    found = with_gradients(with_tree(attend), dtype, *parts, **options)
    assert worst(found, wanted) < bound
    native = with_gradients(with_tree(in_own_dtype), dtype, *parts, **options)
    assert worst(native, wanted) < bound


def with_tree(function: Any) -> Any:
    return lambda q, k, v, tree, **options: function(q, k, v, tree, **options)


def in_own_dtype(q: Tensor, k: Tensor, v: Tensor, tree: TreeLayout, **options: Any) -> Tensor:
    """As `attend` on a processor that multiplies 16-bit numbers itself."""
    window = options["window"] if tree.cuts(options["window"]) else None
    return tree_attention(q, k, v, Ask(tree, options["scale"], window, None, False))


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_soft_caps(window: int | None, dtype: torch.dtype) -> None:
    tree = TreeLayout.from_batch(packed(TREES["deep"]))
    parts = [3 * part.to(dtype).double() for part in tensors(tree.num_tokens)]
    options = {"tree": tree, "scale": 0.3, "window": window, "softcap": 4.0}
    wanted = with_gradients(with_tree(dense_attention), torch.float64, *parts, **options)
    found = with_gradients(with_tree(attend), dtype, *parts, **options)
    bound = {torch.float32: 5e-6, torch.float64: 1e-12, torch.bfloat16: 3e-2}[dtype]
    assert worst(found, wanted) < bound


def test_values_may_be_narrower_than_keys() -> None:
    tree = TreeLayout.from_batch(packed(TREES["deep"]))
    parts = tensors(tree.num_tokens, value_width=5)
    options = {"tree": tree, "scale": 0.3}
    wanted = with_gradients(with_tree(dense_attention), torch.float64, *parts, **options)
    assert (
        worst(with_gradients(with_tree(attend), torch.float64, *parts, **options), wanted) < 1e-12
    )


@pytest.mark.parametrize("window", [None, 7, 40])
def test_nodes_longer_than_a_chunk(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "CHUNK", 8)
    tree = TreeLayout.from_batch(packed(forked(45, 30, 21)))
    parts = tensors(tree.num_tokens)
    options = {"tree": tree, "scale": 0.3, "window": window, "softcap": 9.0}
    wanted = with_gradients(with_tree(dense_attention), torch.float64, *parts, **options)
    assert (
        worst(with_gradients(with_tree(attend), torch.float64, *parts, **options), wanted) < 1e-12
    )


def test_the_dense_mask_is_the_tree() -> None:
    tree = TreeLayout.from_batch(packed([[1, 2, 3], [1, 2, 4], [7]]))
    wanted = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert dense_mask(tree).int().tolist() == wanted
    windowed = dense_mask(tree, 2).int().tolist()
    assert windowed[2:4] == [[0, 1, 1, 0, 0], [0, 1, 0, 1, 0]]


@pytest.mark.parametrize("options", [{}, {"window": 6}, {"softcap": 5.0}], ids=str)
def test_one_sequence_moves_no_bit_of_another(options: dict[str, Any]) -> None:
    """Nodes 8 rows or longer; the changed rows are those of the last branch alone."""
    tree = TreeLayout.from_batch(packed(forked(16, 24, 9, 31)))
    changed = slice(tree.num_tokens - 31, tree.num_tokens)
    q, k, v, grad = (part.float() for part in tensors(tree.num_tokens))
    others = [x.clone() for x in (q, k, v)]
    for x in others:
        x[:, :, changed] = torch.randn_like(x[:, :, changed])
    grad[:, changed] = 0  # its own gradient reaches the shared prefix, as it must
    before = with_gradients(
        with_tree(attend), torch.float32, q, k, v, grad, tree=tree, scale=0.3, **options
    )
    after = with_gradients(
        with_tree(attend), torch.float32, *others, grad, tree=tree, scale=0.3, **options
    )
    kept = slice(0, changed.start)
    assert torch.equal(before[0][:, kept], after[0][:, kept])
    for a, b in zip(before[1:], after[1:], strict=True):
        assert torch.equal(a[:, :, kept], b[:, :, kept])


@pytest.mark.parametrize("options", [{}, {"window": 6}, {"softcap": 5.0}], ids=str)
def test_repeats_to_the_bit(options: dict[str, Any]) -> None:
    tree = TreeLayout.from_batch(packed(TREES["deep"]))
    parts = tensors(tree.num_tokens)
    runs = [
        with_gradients(with_tree(attend), torch.float32, *parts, tree=tree, scale=0.3, **options)
        for _ in range(3)
    ]
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("options", [{}, {"window": 6}, {"softcap": 5.0}], ids=str)
def test_runs_under_deterministic_algorithms(options: dict[str, Any]) -> None:
    """Which fill fresh memory with NaN: nothing is read before it is written."""
    tree = TreeLayout.from_batch(packed(TREES["deep"]))
    parts = tensors(tree.num_tokens)
    given = {"tree": tree, "scale": 0.3, **options}
    wanted = with_gradients(with_tree(attend), torch.float32, *parts, **given)
    torch.use_deterministic_algorithms(True)
    try:
        found = with_gradients(with_tree(attend), torch.float32, *parts, **given)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("options", [{}, {"window": 6}, {"softcap": 5.0}], ids=str)
def test_runs_on_fake_tensors(options: dict[str, Any]) -> None:
    """As a dry run that counts memory and computes nothing does."""
    tree = TreeLayout.from_batch(packed(TREES["deep"]))
    with FakeTensorMode():
        q, k = (torch.empty(1, heads, tree.num_tokens, 8, requires_grad=True) for heads in (4, 2))
        out = attend(q, k, k, tree, scale=0.3, **options)
        out.sum().backward()
    assert out.shape == (1, tree.num_tokens, 4, 8)
    assert k.grad is not None
    assert k.grad.shape == k.shape


def call(query: Tensor, **options: Any) -> Any:
    module = torch.nn.Identity()
    return tree_attention_forward(module, query, query, query, options.pop("mask", None), **options)


def test_refuses_to_run_without_its_tree() -> None:
    query = torch.zeros(1, 2, 5, 8)
    tree = TreeLayout.from_batch(packed(TREES["one"]))
    assert call(query, tree=tree)[0].shape == (1, 5, 2, 8)
    with pytest.raises(AssertionError, match="without tree"):
        call(query)
    with pytest.raises(AssertionError, match=r"\(1, 5\) rows and the queries \(1, 4\)"):
        call(query[:, :, :4], tree=tree)
    with pytest.raises(AssertionError, match=r"queries \(2, 5\)"):
        call(query.expand(2, -1, -1, -1), tree=tree)
    with pytest.raises(AssertionError, match="mask"):
        call(query, tree=tree, mask=torch.ones(1, 1, 5, 5))
    with pytest.raises(AssertionError, match=r"dropout is 0\.1"):
        call(query, tree=tree, dropout=0.1)


def test_refuses_what_it_would_ignore() -> None:
    query = torch.zeros(1, 2, 5, 8)
    tree = TreeLayout.from_batch(packed(TREES["one"]))
    with pytest.raises(ArchitectureError, match="s_aux"):
        call(query, tree=tree, s_aux=torch.zeros(2))
    with pytest.raises(ArchitectureError, match="not causal"):
        call(query, tree=tree, is_causal=False)
    from transformers import Llama4TextConfig

    with pytest.raises(ArchitectureError, match="attention_chunk_size 64"):
        no_mask(config=Llama4TextConfig(attention_chunk_size=64), local_size=64)


def test_is_registered_under_one_name() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    register()
    register()
    assert AttentionInterface()[ATTENTION] is tree_attention_forward
    assert AttentionMaskInterface()[ATTENTION] is no_mask


@pytest.mark.parametrize(
    ("asked", "kernel"),
    [
        ({"device": "cpu"}, "tree"),
        ({"device": "cpu", "windowed": True}, "chunks"),
        ({"device": "cpu", "softcap": 50.0}, "chunks"),
        ({"device": "cpu", "value_width": 32}, "chunks"),
        ({"device": "meta"}, "node loop"),
        ({"device": "cuda", "capability": (9, 0)}, "levels"),
        ({"device": "cuda", "capability": (9, 0), "windowed": True}, "levels"),
        ({"device": "cuda", "capability": (9, 0), "softcap": 50.0}, "chunks"),
        ({"device": "cuda", "capability": (9, 0), "dtype": torch.float32}, "node loop"),
        ({"device": "cuda", "capability": (9, 0), "head_width": 512}, "node loop"),
        ({"device": "cuda", "capability": (7, 5)}, "node loop"),
    ],
    ids=str,
)
def test_the_choice_and_its_reason(asked: dict[str, Any], kernel: str) -> None:
    defaults = {"dtype": torch.float16, "head_width": 64}
    choice = choose(**{**defaults, **asked, "device": torch.device(asked["device"])})
    assert choice.kernel == kernel
    assert str(choice) == f"attention: {kernel} ({choice.reason})"


def test_on_a_real_cuda_device_without_16_bit_the_reason_names_the_capability() -> None:
    choice = choose(
        device=torch.device("cuda"), dtype=torch.float16, head_width=64, capability=(7, 5)
    )
    assert choice.reason == "compute capability 7.5 is below 8.0"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("rows", [TREES["deep"], TREES["roots"]], ids=["deep", "roots"])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_cuda_equals_the_dense_twin(
    rows: list[list[int]],
    groups: int,
    window: int | None,
    dtype: torch.dtype,
    softcap: float | None,
) -> None:
    batch = packed(rows)
    parts = [part.to(dtype).double() for part in tensors(batch.nodes[-1].stop, groups=groups)]
    options = {"scale": 0.3, "window": window, "softcap": softcap}
    wanted = with_gradients(
        with_tree(dense_attention),
        torch.float64,
        *parts,
        tree=TreeLayout.from_batch(batch),
        **options,
    )
    tree = TreeLayout.from_batch(batch, "cuda")
    found = with_gradients(
        with_tree(attend), dtype, *(part.cuda() for part in parts), tree=tree, **options
    )
    bound = {torch.float32: 5e-3, torch.bfloat16: 3e-2, torch.float16: 5e-3}[dtype]  # TF32 allowed
    assert worst([x.cpu() for x in found], wanted) < bound


@pytest.mark.parametrize("width", [64, 96, 128, 256])
@pytest.mark.parametrize("window", [None, 7])
def test_levels_equal_the_dense_twin_with_many_queries_a_key(
    width: int, window: int | None
) -> None:
    """Three levels, eight query heads a key head, a window shorter than the shared nodes."""
    tree = TreeLayout.from_batch(packed(TREES["deep"]))
    assert len(tree.levels()) == 2
    parts = tensors(tree.num_tokens, heads=16, groups=2, width=width)
    options = {"tree": tree, "scale": width**-0.5, "window": window}
    wanted = with_gradients(with_tree(dense_attention), torch.float64, *parts, **options)
    found = with_gradients(with_tree(level_attention), torch.float64, *parts, **options)
    assert worst(found, wanted) < 1e-12


@pytest.mark.parametrize("form", [level_attention, node_loop_attention])
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_many_share_adds_up_its_gradient_in_float32(
    form: Any, window: int | None, dtype: torch.dtype
) -> None:
    """One rounding a child would be an error that grows with their number."""
    tree = TreeLayout.from_batch(packed(forked(30, *[8] * 64)))
    parts = [part.to(dtype).double() for part in tensors(tree.num_tokens)]
    options = {"tree": tree, "scale": 0.3, "window": window}
    wanted = with_gradients(with_tree(dense_attention), torch.float64, *parts, **options)
    found = with_gradients(with_tree(form), dtype, *parts, **options)
    again = with_gradients(with_tree(form), dtype, *parts, **options)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    for mine, exact in zip(found[2:], wanted[2:], strict=True):
        shared = slice(0, 30)
        error = (mine[:, :, shared].double() - exact[:, :, shared]).norm()
        assert error < 0.8 * torch.finfo(dtype).eps * exact[:, :, shared].norm()


class _Made(TorchDispatchMode):
    """Names of the operators, and the rows of the largest tensor of keys that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_on_cuda_a_level_is_one_call_and_no_key_is_copied() -> None:
    tree = TreeLayout.from_batch(packed(TREES["deep"]))
    with planning_for_cuda((9, 0)), FakeTensorMode(allow_non_fake_inputs=True), _Made() as made:
        q, k, v = (
            torch.empty(1, heads, tree.num_tokens, 64, dtype=torch.bfloat16, requires_grad=True)
            for heads in (8, 2, 2)
        )
        out = attend(q, k, v, tree, scale=0.3)
        out.sum().backward()
    assert out.shape == (1, tree.num_tokens, 8, 64)
    assert k.grad is not None
    assert k.grad.shape == k.shape
    calls = 1 + len(tree.levels())
    assert made.names.count("aten::_flash_attention_forward") == calls
    assert made.names.count("aten::_flash_attention_backward") == calls
    assert "aten::index_select" not in made.names


def test_a_window_copies_only_the_keys_within_it() -> None:
    tree = TreeLayout.from_batch(packed(forked(300, *[10] * 20)))
    assert len(tree.within(17).keys) == tree.num_tokens + 20 * 16
    out = tree.within(17)
    assert int(out.call.cu_k[-1]) == len(out.keys)
