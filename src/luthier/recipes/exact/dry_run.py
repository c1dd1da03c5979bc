"""The exact plan: one step of the real training code on tensors without data, in a process of its own.

`exact` starts `luthier.recipes.exact.process`, which builds the model of a `config.json` under
torch's `FakeTensorMode`, attaches what is trained, scores the reference of DPO, evaluates, makes one
optimiser step and saves, while every storage is counted as it comes and goes.  No weights are read
and no memory is taken.  The closed form of `luthier.planner` answers at once; this answers in
seconds and is what it is checked against.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import luthier.errors
from luthier import children
from luthier.bounded import decode_ours
from luthier.config.settings import Settings
from luthier.data.packing.pack import PackedBatch, Span
from luthier.errors import CapacityError, LuthierError
from luthier.planner.choose import choose_dtype
from luthier.planner.device import Device

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
"""Parts of a peak, in the order they are shown."""


@dataclass(frozen=True, slots=True)
class BatchShape:
    """The shape of a micro-batch: all that its memory depends on.

    Args:
        nodes: Of the prefix tree in one row, depth-first: start, stop, spans of the ancestors.
        targets: Supervised tokens of each sequence; DPO has chosen and rejected in turn.
        leaves: Node in which each sequence ends.
    """

    nodes: tuple[tuple[int, int, tuple[Span, ...]], ...]
    targets: tuple[int, ...]
    leaves: tuple[int, ...]

    @classmethod
    def plain(cls, lengths: Sequence[int], targets: Sequence[int]) -> Self:
        """Sequences that share nothing.

        Args:
            lengths: Tokens that are laid out, of each sequence: all before its last target.
            targets: Supervised tokens of each.
        """
        assert len(lengths) == len(targets), "one count of targets for each length"
        nodes, start = [], 0
        for length in lengths:
            nodes.append((start, start + length, ()))
            start += length
        return cls(tuple(nodes), tuple(targets), tuple(range(len(lengths))))

    @classmethod
    def of(cls, packed: PackedBatch) -> Self:
        """The shape of a real micro-batch."""
        counts = [0] * packed.num_sequences
        last_row = [0] * packed.num_sequences
        for sequence, row in zip(packed.target_sequence, packed.target_row, strict=True):
            counts[sequence] += 1
            last_row[sequence] = max(last_row[sequence], int(row))
        nodes = tuple((node.start, node.stop, tuple(node.path)) for node in packed.nodes)
        leaf_of_row = {row: at for at, node in enumerate(nodes) for row in range(*node[:2])}
        return cls(nodes, tuple(counts), tuple(leaf_of_row[row] for row in last_row))

    @property
    def num_tokens(self) -> int:
        """Rows that are laid out."""
        return self.nodes[-1][1]

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Back from the plain values of `asdict`."""
        nodes = tuple(
            (start, stop, tuple((a, b) for a, b in path)) for start, stop, path in body["nodes"]
        )
        return cls(nodes, tuple(body["targets"]), tuple(body["leaves"]))


def worst_step(steps: Iterable[Sequence[BatchShape]]) -> list[BatchShape]:
    """One or two micro-batches whose step takes the most memory of all steps.

    The first micro-batch of a step meets no gradients, the others do: the largest of each kind.
    Largest is by tokens, then by targets.
    """
    first: list[BatchShape] = []
    later: list[BatchShape] = []
    for step in steps:
        first = _larger(first, step[:1])
        for shape in step[1:]:
            later = _larger(later, [shape])
    return first + later


def _larger(kept: list[BatchShape], found: Sequence[BatchShape]) -> list[BatchShape]:
    return max(kept, [*found], key=lambda of: [(b.num_tokens, sum(b.targets)) for b in of])


@dataclass(frozen=True, slots=True)
class ExactPlan:
    """What a dry run counted.

    Args:
        parts: Bytes by part at the peak, by the names of `PARTS`; they add up to `peak_bytes`.
        peak_bytes: Most bytes that the device's allocator holds at once.
        peak_where: Phase of the peak: one of `phases`.
        phases: Most bytes held during each phase, in the order in which they came.
        seconds: What the dry run took, start of its process included.
        notes: What was put in place of the real thing.
    """

    parts: dict[str, int]
    peak_bytes: int
    peak_where: str
    phases: dict[str, int]
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def exact(
    settings: Settings,
    *,
    config: Mapping[str, Any],
    device: Device,
    batches: Sequence[BatchShape],
    evaluation: Sequence[BatchShape] = (),
    reference: BatchShape | None = None,
    gradients_held: bool = False,
    timeout_s: float = 300,
) -> ExactPlan:
    """Count the memory of a run by doing its steps without memory.

    Args:
        settings: Of the run; values that are open are taken as `luthier train` would on the device.
        config: Content of the base's `config.json`.
        device: That the run is for; it need not be here.
        batches: Micro-batches of the largest optimiser step, in their order.
        evaluation: Micro-batches of the largest kind in an evaluation; none without held-out rows.
        reference: The largest pair, which DPO scores alone before step 1.
        gradients_held: Earlier micro-batches of the step, which are not walked through, have left
            their gradients.
        timeout_s: The process is ended after so many seconds.

    Raises:
        LuthierError: What the real run would refuse: the architecture, the targets, the settings.
        CapacityError: No answer within `timeout_s`.
    """
    started = time.monotonic()
    request = {
        "settings": settings.model_dump(mode="json"),
        "config": dict(config),
        "dtype": choose_dtype(settings.torch_dtype, device)[0],
        "device": {"kind": device.kind, "capability": device.capability},
        "batches": [asdict(shape) for shape in batches],
        "evaluation": [asdict(shape) for shape in evaluation],
        "reference": None if reference is None else asdict(reference),
        "gradients_held": gradients_held,
    }
    answer = _ask(request, timeout_s)
    parts = {name: answer["parts"].get(name, 0) for name in PARTS}
    return ExactPlan(
        parts=parts,
        peak_bytes=answer["peak_bytes"],
        peak_where=answer["peak_where"],
        phases=answer["phases"],
        seconds=time.monotonic() - started,
        notes=tuple(answer["notes"]),
    )


def _ask(request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """One request to a process of its own, which ends with its answer."""
    seen = children.serving_environment() | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = children.run(
            "luthier.recipes.exact.process",
            text=json.dumps(request),
            timeout_s=timeout_s,
            environment=seen,
        )
    except children.TooLateError:
        raise CapacityError(
            f"the exact plan took more than {timeout_s:g} s",
            why="it walks through every layer of the model, and this machine is busy or small",
            fix="leave --exact out: the closed form answers at once",
        ) from None
    if done.status != 0:
        last = (done.err.strip().splitlines() or ["nothing was said"])[-1]
        raise CapacityError(
            f"the exact plan ended with status {done.status}: {last[:300]}",
            why="its process failed; the model itself may still train",
            fix="leave --exact out: the closed form answers at once",
        )
    answer: dict[str, Any] = decode_ours(done.out.splitlines()[-1])
    if "error" in answer:
        raise _raised(answer["error"])
    return answer


def _raised(said: Mapping[str, Any]) -> LuthierError:
    """The error of the other process, of its own kind."""
    kind = getattr(luthier.errors, said["kind"], LuthierError)
    error: LuthierError = kind(said["what"], why=said["why"], fix=said["fix"])
    return error
