"""What a training run holds in memory whatever the batch: weights, scales, adapters, optimiser.

Bytes by part.  Every figure is a count of the tensors that luthier's own code allocates; names of
parts are those of `PARTS`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from luthier.planner.device import Device
from luthier.planner.shape import Matrix, Shape, quantised_bytes

PARTS = (
    "weights",
    "quantisation",
    "adapters",
    "gradients",
    "optimiser",
    "activations",
    "head",
    "workspace",
    "runtime",
)
Parts = dict[str, int]

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
BNB_SMALLEST = 4096  # weights with fewer values keep float32 moments
BNB_BLOCK = 256
BNB_CODE_BOOKS = 2 * 256 * 4
OPENED_BYTES = 16  # a value of a master while it is opened, changed and split again
CPU_8BIT_BYTES = 20  # a value while bitsandbytes updates it on a CPU, where nothing is fused
PART = 2**22  # values of a master opened at once (`engine.masters`)


@dataclass(frozen=True, slots=True)
class How:
    """How a model is trained, as far as memory asks.

    Args:
        full: Every weight is trained; else an adapter.
        rank: Of the adapter.
        targets: Names of the linear layers that it adapts, by their ends; `all-linear` for all.
        whole: Modules trained in full beside it: `embed_tokens`, `lm_head`.
        bits: 0 (not quantised), 4 or 8.
        double: Whether 4-bit scales are quantised too.
        dtype: Of the weights and of compute.
        optimiser: `adamw_torch`, `adamw_8bit`, `paged_adamw_32bit`, `paged_adamw_8bit`.
        masters: Float32 masters of weights that are trained in 16 bits.
        dropout: Whether the adapter drops inputs.
        from_scratch: Random weights, made in float32 on the host.
        magnitudes: Whether every row of an adapted weight has a trained magnitude (DoRA).
        principal: Whether what was taken out of the base is kept beside it (PiSSA).
    """

    full: bool = False
    rank: int = 32
    targets: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    bits: int = 0
    double: bool = False
    dtype: str = "bfloat16"
    optimiser: str = "adamw_torch"
    masters: bool = True
    dropout: bool = False
    from_scratch: bool = False
    magnitudes: bool = False
    principal: bool = False

    @property
    def element(self) -> int:
        """Bytes of one value of weights and activations."""
        return ELEMENT_BYTES[self.dtype]

    def work(self, device: Device) -> int:
        """Bytes of one value in products: a CPU without 16-bit instructions multiplies float32."""
        emulated = device.kind == "cpu" and self.element == 2
        native = self.dtype == "bfloat16" and device.bf16
        return 4 if emulated and not native else self.element

    def adapts(self, matrix: Matrix) -> bool:
        """Whether a linear layer carries an adapter."""
        if self.full:
            return False
        return any(
            target == "all-linear" or matrix.name == target or matrix.name.endswith("." + target)
            for target in self.targets
        )


def adapter_params(shape: Shape, how: How) -> int:
    """Values of A and B of every adapted layer."""
    adapted = [m for m in shape.linears if how.adapts(m)]
    rows = sum(m.outputs for m in adapted) if how.magnitudes else 0
    return shape.layers * (how.rank * sum(m.inputs + m.outputs for m in adapted) + rows)


def whole_params(shape: Shape, how: How) -> int:
    """Values of embedding and head where they are trained beside an adapter."""
    return len(set(how.whole)) * shape.vocabulary * shape.hidden


def trained_params(shape: Shape, how: How) -> int:
    """Values that the optimiser moves."""
    return shape.num_params if how.full else adapter_params(shape, how) + whole_params(shape, how)


def trained_tensors(shape: Shape, how: How) -> Iterable[tuple[int, int]]:
    """Size and number of each kind of trained tensor."""
    if not how.full:
        for matrix in shape.linears:
            if how.adapts(matrix):
                yield how.rank * matrix.inputs, shape.layers
                yield how.rank * matrix.outputs, shape.layers
                if how.magnitudes:
                    yield matrix.outputs, shape.layers
        yield shape.vocabulary * shape.hidden, len(set(how.whole))
        return
    for matrix in shape.linears:
        yield matrix.size, shape.layers
        if matrix.bias:
            yield matrix.outputs, shape.layers
    if shape.experts:
        yield shape.experts * 2 // 3, shape.layers
        yield shape.experts - shape.experts * 2 // 3, shape.layers
        yield shape.router, shape.layers
    yield shape.hidden, max(1, shape.norm_weights * shape.layers // shape.hidden)
    yield shape.vocabulary * shape.hidden, 1 if shape.tied else 2


def static_parts(shape: Shape, how: How, device: Device) -> Parts:
    """Bytes held from the first step to the last, gradients left out."""
    weights, scales = _base(shape, how)
    adapters = 0 if how.full else 4 * (adapter_params(shape, how) + whole_params(shape, how))
    adapters += 4 * adapter_params(shape, how) if how.principal else 0
    paged = how.optimiser.startswith("paged") and device.cuda
    state = 0 if paged else optimiser_bytes(shape, how)
    return {
        "weights": weights,
        "quantisation": scales,
        "adapters": adapters,
        "optimiser": state + master_bytes(shape, how),
    }


def _base(shape: Shape, how: How) -> tuple[int, int]:
    """Bytes of the base, and of the scales of its quantised layers."""
    if not how.bits:
        return shape.num_params * how.element, 0
    rest = (shape.num_params - shape.linear_weights) * how.element
    pairs = [quantised_bytes(m, how.bits, double=how.double) for m in shape.linears]
    codes = shape.layers * sum(pair[0] for pair in pairs)
    return rest + codes, shape.layers * sum(pair[1] for pair in pairs)


def optimiser_bytes(shape: Shape, how: How) -> int:
    """Both moments of everything that is trained."""
    if "8bit" not in how.optimiser:
        return 8 * trained_params(shape, how)
    total = 0
    for size, count in trained_tensors(shape, how):
        blocks = -(-size // BNB_BLOCK)
        small = size < BNB_SMALLEST
        total += count * (8 * size if small else 2 * size + 8 * blocks + BNB_CODE_BOOKS)
    return total


def master_bytes(shape: Shape, how: How) -> int:
    """What is kept beside 16-bit weights so that small updates are not lost."""
    if not (how.full and how.masters):
        return 0
    return shape.num_params * {"float32": 0, "bfloat16": 2, "float16": 4}[how.dtype]


def gradient_bytes(shape: Shape, how: How) -> int:
    """Gradients accumulate in float32."""
    return 4 * trained_params(shape, how)


def largest_trained(shape: Shape, how: How) -> int:
    """Values of the largest tensor that is trained."""
    return max((size for size, count in trained_tensors(shape, how) if count), default=0)


def update_workspace(shape: Shape, how: How, device: Device) -> int:
    """What the optimiser asks for besides, piece by piece."""
    largest = largest_trained(shape, how)
    opened = 0
    if how.full and how.element == 2:
        opened = OPENED_BYTES * (min(largest, PART) if how.optimiser == "adamw_torch" else largest)
    if "8bit" in how.optimiser and not device.cuda:
        opened += CPU_8BIT_BYTES * largest
    return opened
