"""What forward and backward of one micro-batch hold at once, from what luthier's ops keep.

T: tokens of the micro-batch.  S: supervised targets.  d, q, kv, f, V: see `shape`.  Everything in
bytes.  Layers are equal, so the peak is one of a few moments: the head, the feed-forward block of
the last layer in backward, the end of backward, the optimiser; each is written out here.

Sources: the tensors that `kernels.pointwise`, `kernels.lora_linear`, `kernels.frozen_linear`,
`kernels.head_logprob` and `kernels.attention` save and make; verified against the CPU allocator's
own record (bench/plan_vs_measured.py).
"""

from collections.abc import Iterator
from typing import NamedTuple

from luthier.planner.device import Device
from luthier.planner.memory import (
    How,
    Parts,
    gradient_bytes,
    static_parts,
    update_workspace,
)
from luthier.planner.shape import FOUR_NORMS, WIDE_NORMS, Shape
from luthier.units import MIB

LOGITS_BYTES = {"cpu": 64 * MIB, "cuda": 256 * MIB}
CAST_BLOCK = 8 * MIB
CUBLAS_BYTES = {True: 32 * MIB, False: 8 * MIB + 128 * 1024}  # Hopper and newer, older


class Work(NamedTuple):
    """The largest micro-batch of a run.

    Args:
        tokens: T.
        targets: S.
        longest: Tokens of its longest path.
        path_tokens: Keys that its nodes see together; T where nothing is shared.
        micro_batches: Of the largest step: from the second on gradients are already there.
        nodes: Of its prefix tree.
    """

    tokens: int
    targets: int
    longest: int
    path_tokens: int
    micro_batches: int = 1
    nodes: int = 1


class Moment(NamedTuple):
    """A moment of a run and what is held then."""

    where: str
    parts: Parts

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.parts.values())


def moments(
    shape: Shape, how: How, device: Device, work: Work, *, recompute: bool
) -> Iterator[Moment]:
    """Every moment that can be the peak of a run."""
    held = static_parts(shape, how, device)
    ops = _Ops(shape, how, device, work)
    grads, common = gradient_bytes(shape, how), ops.common()
    before = grads if work.micro_batches > 1 else 0
    kept = ops.kept(recompute) + common
    last = kept + ops.final_norm()
    one = ops.layer() + common

    def at(
        where: str,
        workspace: int,
        *,
        gradients: int = 0,
        activations: int = 0,
        head: int = 0,
    ) -> Moment:
        made = {"gradients": gradients, "activations": activations, "head": head}
        return Moment(where, {**held, **made, "workspace": workspace + ops.constant()})

    loading = {**held, "optimiser": 0, "workspace": _loading(shape, how, device)}
    yield Moment("loading", loading)
    head = ops.head(graph=True)
    yield at("step forward, head", 0, gradients=before, activations=last, head=head)
    if ops.trains_head:
        head = ops.head_backward()
        yield at("step backward, head", 0, gradients=before, activations=last, head=head)
    yield at(
        "step backward",
        ops.in_backward(),
        gradients=before + ops.head_gradient(),
        activations=kept + (ops.again() if recompute else 0),
    )
    if how.full:
        first = before or grads - ops.not_yet()
        yield at("end of backward", ops.in_backward(), gradients=first, activations=one)
    ends = ops.end_of_backward()
    yield at("end of backward", ends, gradients=grads, activations=common)
    yield at("optimiser step", update_workspace(shape, how, device), gradients=grads)
    yield at("evaluation", 0, activations=common, head=ops.head(graph=False))
    yield at("evaluation", ops.no_grad(), activations=common)
    yield Moment("saving", held)


def _loading(shape: Shape, how: How, device: Device) -> int:
    """Beside the model itself: the tensor that is being read, checked and quantised."""
    largest = max([m.size for m in shape.linears] + [shape.vocabulary * shape.hidden])
    if how.from_scratch:
        if device.cuda:
            return 4 * largest
        return (4 - how.element) * shape.num_params + how.element * largest
    if how.bits:
        largest = max((m.size for m in shape.linears), default=0)
        copy = largest * how.element if device.cuda else 0
        return copy + largest * (3 if how.bits == 8 else 1)
    return 0


class _Ops:
    """The tensors of one micro-batch."""

    def __init__(self, shape: Shape, how: How, device: Device, work: Work) -> None:
        self.shape, self.how, self.device, self.work = shape, how, device, work
        self.e, self.w = how.element, how.work(device)
        self.trains_head = how.full or "lm_head" in how.whole
        ends = {m.name.rsplit(".", 1)[-1]: how.full or how.adapts(m) for m in shape.linears}
        names = ("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn")
        self.reads_attention_input = any(ends.get(name) for name in names)
        self.reads_mlp_input = any(
            ends.get(name) for name in ("gate_proj", "up_proj", "gate_up_proj", "c_fc")
        )
        self.reads_product = bool(ends.get("down_proj"))
        adapted = [m for m in shape.linears if how.adapts(m)]
        self.lows = len(adapted) * how.rank * self.w
        if how.magnitudes:  # the outputs before they are scaled, for the magnitudes' gradient
            self.lows += sum(m.outputs for m in adapted) * self.e
        self.down = max((m.size for m in shape.linears), default=0)

    # Forward

    def kept(self, recompute: bool) -> int:
        """What all layers keep from forward to backward."""
        layers, tokens = self.shape.layers, self.work.tokens
        if recompute:
            return layers * self.shape.hidden * self.e * tokens
        first = 0
        if not self.how.full:  # a frozen embedding: its output and the first norm are not kept
            first = (self.shape.hidden * self.e + 4) * tokens
        return layers * self.layer() - first

    def again(self) -> int:
        """What one layer keeps when it is computed again; its input was there before."""
        return self.layer() - self.shape.hidden * self.e * self.work.tokens

    def layer(self) -> int:
        """What one layer keeps."""
        return self._norms() + self._attention() + self._mlp() + self.lows * self.work.tokens

    def _norms(self) -> int:
        s, tokens = self.shape, self.work.tokens
        one = s.hidden * self.e + (4 if s.fused else 8)
        count = 4 if s.model_type in FOUR_NORMS else 2
        if s.model_type in WIDE_NORMS:  # none before: the layers read the residual itself
            return tokens * (2 * one + s.hidden * self.e * 2)
        inputs = s.hidden * self.e * (self.reads_attention_input + self.reads_mlp_input)
        return tokens * (count * one + inputs)

    def _attention(self) -> int:
        s, tokens, e = self.shape, self.work.tokens, self.e
        rows = (2 * s.q * e + 4 * s.heads) * tokens  # query, output, log-sum-exp
        keys = 2 * s.kv * e * tokens
        if self.kernel == "node loop":
            keys = (2 * self.work.path_tokens + 2 * tokens) * s.q * e
        if s.joined:  # the values are a view of one matrix with all three
            keys += (s.q + s.kv) * e * tokens
        if s.model_type in ("qwen3", "qwen3_moe", "gemma3_text"):
            rows += ((s.q + s.kv) * e + 4 * (s.heads + s.kv_heads)) * tokens
        elif s.model_type in WIDE_NORMS:
            rows += ((s.q + s.kv) * e + 8) * tokens
        return rows + keys

    def _mlp(self) -> int:
        s, tokens, e = self.shape, self.work.tokens, self.e
        if s.num_experts:
            wide = s.active * (4 * s.expert_width + 2 * s.hidden)
            return tokens * (wide * e + 8 * s.num_experts)
        inner = 2 if s.gated else 4
        return tokens * s.intermediate * e * (inner + self.reads_product)

    @property
    def kernel(self) -> str:
        """Which form of attention runs (`kernels.attention.choice`)."""
        if not self.device.cuda or self.shape.softcap:
            return "tree"
        capability = self.device.capability or (8, 0)
        modern = capability >= (8, 0) and self.e == 2
        wide = self.shape.head_dim > 256 or self.shape.head_dim % 8
        return "levels" if modern and not wide else "node loop"

    def final_norm(self) -> int:
        """What the last norm keeps."""
        return self.work.tokens * (self.shape.hidden * self.e + 4)

    def common(self) -> int:
        """Ids, positions, tree, and the cosines and sines that all layers share."""
        return self.work.tokens * (2 * self.shape.head_dim * self.e + 24) + self.work.targets * 16

    def constant(self) -> int:
        """Buffers of a library that do not depend on the batch."""
        if self.device.cuda:
            return CUBLAS_BYTES[(self.device.capability or (8, 0)) >= (9, 0)]
        return 0

    # Head

    def head_rows(self) -> int:
        """Rows whose logits are held at once (`kernels.head_logprob`)."""
        budget, targets = LOGITS_BYTES[self.device.kind], max(1, self.work.targets)
        most = max(128, budget // (self.shape.vocabulary * 4 * (1 + self.shape.capped_head)))
        chunks = -(-targets // most)
        return -(-targets // chunks)

    def _logits(self) -> int:
        """The buffer of one chunk and what is made beside it."""
        chunk = self.head_rows() * self.shape.vocabulary * 4
        beside = chunk if self.shape.capped_head else 0
        if self.device.cuda and self.trains_head and not self.how.full and self.e == 2:
            beside += self.e * self.shape.vocabulary * self.shape.hidden  # cast for the products
        if self.e == 2 and self.w == 2:
            beside += chunk  # the product in float32, before it is written into the buffer
        elif self.e != self.w:
            whole = 4 * self.shape.vocabulary * self.shape.hidden
            beside += min(CAST_BLOCK, whole) + self.head_rows() * self.shape.hidden * 4
        return chunk + beside

    def head(self, *, graph: bool) -> int:
        """Hidden states of the targets, one chunk of logits, and the unit gradients."""
        d, targets = self.shape.hidden, self.work.targets
        states = targets * d * self.e
        unit = states if graph and not self.trains_head else 0
        part = self.head_rows() * d * 4 if unit else 0
        return states + unit + part + self._logits() + targets * 17

    def head_gradient(self) -> int:
        """The gradient of a trained head, which is there before all others."""
        if not self.trains_head:
            return 0
        tied_16 = self.shape.tied and self.e == 2 and self.how.full
        return self.shape.vocabulary * self.shape.hidden * (2 if tied_16 else 4)

    def head_backward(self) -> int:
        """Logits once more, the gradient of the head, and that of the hidden states."""
        d, size = self.shape.hidden, self.shape.vocabulary * self.shape.hidden
        sums = size * 4 * (2 if self.e == 2 and self.w == 2 else 1)
        states = 2 * self.work.targets * d * self.e + self.head_rows() * d * 4
        return states + self._logits() + sums + self.work.targets * 17

    # Backward

    def in_backward(self) -> int:
        """Most that the last layer makes in backward, beside what is kept."""
        s, tokens, e, w = self.shape, self.work.tokens, self.e, self.w
        into = s.hidden * e * tokens
        if s.num_experts:
            wide = 4 * s.active * s.expert_width * e * tokens
            return into + wide + 2 * s.hidden * e * tokens
        width = s.intermediate * tokens
        gated = 4 * width * e - (width * e if self.reads_product else 0)
        if not s.gated:
            gated = 3 * width * e
        matrix = s.hidden * s.intermediate
        cast = matrix * w if self.how.bits or e != w else 0
        if self.how.bits == 8:
            cast += matrix * 4
        down = width * w + cast + ((width + s.hidden * tokens) * 4 if e != w else 0)
        weights = matrix * 4 if self.how.full else 0
        if self.reads_product and self.how.dropout:
            down += width * (4 + 1 + 2 * w)
        return max(into + gated + weights, into + down + weights, self._attention_backward())

    def _attention_backward(self) -> int:
        """FlashAttention's backward, beside what is kept: by then that of the feed-forward is not.

        Float32 sums of the queries' gradient, in blocks of 128 rows a sequence; grouped heads are
        expanded; and where nodes share, the gradients of all calls add up in float32.
        """
        if self.kernel != "levels":
            return 0
        s, tokens, e = self.shape, self.work.tokens, self.e
        blocks = 4 * s.heads * (-(-s.head_dim // 32) * 32 + 1) * (tokens + 128 * self.work.nodes)
        expanded = 2 * s.q * e * tokens if s.heads != s.kv_heads else 0
        made = (2 * s.q + 2 * s.kv) * e * tokens
        if self.work.path_tokens > tokens:
            made += (s.q + 2 * s.kv) * 4 * tokens
        return blocks + expanded + made + s.hidden * e * tokens - self._mlp()

    def not_yet(self) -> int:
        """Gradients that a first backward has not made when it comes to the first layer."""
        s = self.shape
        size = s.vocabulary * s.hidden
        block = (s.num_params - size * (1 if s.tied else 2)) // max(1, s.layers)
        head = size * (4 - self.e) if s.tied else 4 * size  # a tied one waits in its own dtype
        return 4 * block + head

    def end_of_backward(self) -> int:
        """At the embedding, whose own gradient is added to what is there already."""
        size = self.shape.vocabulary * self.shape.hidden
        into = self.shape.hidden * self.e * self.work.tokens
        if not (self.how.full or "embed_tokens" in self.how.whole):
            return 2 * into
        added = self.shape.tied or self.e == 2 or self.work.micro_batches > 1
        return into + (size * self.e if added else 0)

    # Without gradient

    def no_grad(self) -> int:
        """Most that a layer makes in a forward pass alone."""
        s, tokens, e = self.shape, self.work.tokens, self.e
        width = s.intermediate if not s.num_experts else s.active * s.expert_width
        matrix = s.hidden * s.intermediate
        cast = matrix * self.w if self.how.bits or self.e != self.w else 0
        return tokens * e * (3 * width + 3 * s.hidden) + cast
