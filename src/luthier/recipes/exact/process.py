"""The process of a dry run: a request on standard input, the answer as one line of JSON.

Everything is the code of a real run, save where there is nothing to run on: weights come from
`dry_load`, values read from tensors are 1, and files are not written.
"""

import contextlib
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from luthier.bounded import decode_ours
from luthier.config.settings import Settings
from luthier.data.packing.pack import Node, PackedBatch
from luthier.engine.distribution import Ranks
from luthier.engine.evaluate import evaluate
from luthier.engine.loop import StepShare, train
from luthier.engine.optim import Updater
from luthier.errors import LuthierError
from luthier.gallery import family_of
from luthier.kernels.finite import is_finite
from luthier.kernels.planned import planning_for_cuda
from luthier.models.dry_load import dry_load
from luthier.models.quantise import QuantisedLinear
from luthier.models.save import SHARD_BYTES, published_state
from luthier.objectives.terms import Terms
from luthier.recipes.exact.dry_run import BatchShape
from luthier.recipes.exact.targets import CpuTarget, CudaTarget
from luthier.recipes.exact.tracker import StorageTracker
from luthier.recipes.run.assembly import updater_options
from luthier.recipes.run.devices import DTYPES
from luthier.recipes.run.objective import (
    FeedbackObjective,
    Objective,
    PairObjective,
    TokenObjective,
)
from luthier.recipes.run.steps import MicroBatch
from luthier.recipes.run.trainee import Trainee, prepare_model, quantisation_of
from luthier.sources.source import ModelSource


def main() -> int:
    """Read a request, write the answer; returns the exit status."""
    request = decode_ours(sys.stdin.read())
    try:
        answer = dry_run(request)
    except LuthierError as error:
        said = {"what": error.what, "why": error.why, "fix": error.fix}
        answer = {"error": {"kind": type(error).__name__, **said}}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def dry_run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes by phase and part of the run that a request of `recipes.dry_run.exact` describes."""
    # The settings were checked when they were made; filled defaults are no contradictions.
    settings = Settings.model_validate(request["settings"], context={"given": set()})
    device = request["device"]
    capability = tuple(device["capability"] or (8, 0))
    cuda = device["kind"] == "cuda"
    target = CudaTarget(capability) if cuda else CpuTarget()
    tracker = StorageTracker(target)
    tracker.hold(target.held_bytes, "workspace")
    torch.use_deterministic_algorithms(True)
    switches: Any = torch.utils.deterministic
    switches.fill_uninitialized_memory = False
    run = _DryRun(settings, request, tracker)
    with contextlib.ExitStack() as stack:
        if cuda:
            stack.enter_context(planning_for_cuda(capability))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(tracker)
        stack.enter_context(warnings.catch_warnings())
        run.all()
    return {
        "parts": tracker.parts(),
        "peak_bytes": tracker.peak,
        "peak_where": tracker.peak_phase,
        "phases": tracker.peaks,
        "notes": run.notes,
    }


class _Updater(Updater):
    """The real one, telling the tracker what is going on."""

    tracker: StorageTracker

    def hold_gradients(self) -> None:
        """As after a micro-batch: a gradient for every weight, in the kind it accumulates in."""
        for name, weight in self.trained.items():
            if weight.dtype in (torch.float32, torch.float64):
                weight.grad = torch.zeros_like(weight)
            else:
                self._sums[name] = torch.zeros_like(weight, dtype=torch.float32)

    def prepare(self, ranks: Ranks, loss_scale: float = 1.0) -> float:
        self.tracker.label("gradients", *self.gradients().values())
        self.tracker.enter("optimiser step")
        return super().prepare(ranks, loss_scale)


class _DryRun:
    def __init__(
        self, settings: Settings, request: Mapping[str, Any], tracker: StorageTracker
    ) -> None:
        self.settings, self.tracker = settings, tracker
        self.config = request["config"]
        self.dtype = DTYPES[request["dtype"]]
        self.batches = [BatchShape.from_json(body) for body in request["batches"]]
        self.evaluation = [BatchShape.from_json(body) for body in request["evaluation"]]
        self.gradients_held = request.get("gradients_held", False)
        self.reference = request["reference"] and BatchShape.from_json(request["reference"])
        self.notes: list[str] = []

    def all(self) -> None:
        """The phases of a run, in their order."""
        trainee = self.load()
        self.score_reference(trainee)
        self.step(trainee)
        self.evaluate(trainee)  # the one before the first step holds less
        self.save(trainee)

    def load(self) -> Trainee:
        settings, tracker = self.settings, self.tracker
        tracker.enter("loading", "workspace")
        model = dry_load(
            self.config,
            dtype=self.dtype,
            quantisation=quantisation_of(settings),
            from_scratch=settings.from_scratch,
            disk=tracker,
        )
        source = ModelSource(
            settings.model, Path(), None, Path(), family_of(self.config), dict(self.config)
        )
        trainee = prepare_model(model, settings, source, self.dtype, torch.device("cpu"), [])
        trained = {id(weight) for weight in trainee.trained.values()}
        own = [w for w in model.parameters() if trainee.adapters is None or id(w) not in trained]
        tracker.label("weights", *own, *model.buffers())
        for module in model.modules():
            if isinstance(module, QuantisedLinear):
                scales = [value for key, value in module.named_buffers() if key != "codes"]
                tracker.label("quantisation", *scales)
        if trainee.adapters is not None:
            tracker.label("adapters", *trainee.trained.values())
        trainee.ready(
            checkpointing="full" if settings.gradient_checkpointing == "full" else "none",
            seed=settings.seed,
        )
        model.base_model.register_forward_pre_hook(lambda *_: self._scope("activations"))
        model.base_model.register_forward_hook(lambda *_: self._scope("head"))
        return trainee

    def _scope(self, scope: str) -> None:
        self.tracker.scope = scope

    def score_reference(self, trainee: Trainee) -> None:
        """As `recipes.reference.score_pairs`: each pair alone, without gradient."""
        if self.reference is None or not self.settings.needs_reference:
            return
        self.tracker.enter("reference")
        with torch.no_grad():
            trainee.score(packed_of(self.reference)).logp_S.double()

    def evaluate(self, trainee: Trainee) -> None:
        if not self.evaluation:
            return
        self.tracker.enter("evaluation")
        step = self._step(self.evaluation)
        evaluate(self._objective(trainee, self.evaluation), lambda: step, shrink=_never)

    def step(self, trainee: Trainee) -> None:
        """One optimiser step, through the loop of the training."""
        tracker = self.tracker
        learn = self._objective(trainee, self.batches)
        updater = _Updater(trainee.trained, **updater_options(self.settings, trainee))
        updater.tracker = tracker
        parts = updater.masters.parts
        # The first part of a weight is its largest; the others would only take time.
        updater.masters.parts = lambda name: islice(parts(name), 1)  # type: ignore[method-assign]

        def objective(batch: MicroBatch) -> Terms:
            tracker.enter("step forward")
            terms = learn(batch)
            tracker.enter("step backward")
            return terms

        step = self._step(self.batches)
        tracker.enter("optimiser state", "optimiser")
        if self.gradients_held:
            updater.hold_gradients()
        train(
            objective,
            lambda _: step,
            updater,
            first_step=1,
            last_step=1,
            learning_rate=lambda _: 1e-4,
            on_step=lambda _: None,
            shrink=_never,
        )

    def save(self, trainee: Trainee) -> None:
        """The checks before a result is written; writing itself takes host memory only.

        A checkpoint's own check needs no memory.  Of the others the largest tensor has the most.
        """
        self.tracker.enter("saving")
        if trainee.adapters is not None:
            largest = max(trainee.adapters.state().values(), key=Tensor.numel)
            is_finite(largest)
            return
        state = published_state(trainee.model)
        is_finite(max(state.values(), key=Tensor.numel))
        written = sum(value.nbytes for value in state.values())
        with self.tracker.file(min(written, SHARD_BYTES)):
            pass  # read back, a file at a time

    def _objective(self, trainee: Trainee, shapes: Sequence[BatchShape]) -> Objective:
        if self.settings.objective not in ("dpo", "kto"):
            return TokenObjective(trainee)
        samples = sum(self._samples(shape) for shape in shapes)
        with self.tracker.ignoring():
            values = torch.zeros(samples, 2, dtype=torch.float64)
            wanted = torch.zeros(samples, dtype=torch.bool)
        if self.settings.objective == "kto":
            return FeedbackObjective(trainee, values, wanted, self.settings)
        return PairObjective(trainee, values, self.settings)

    def _samples(self, shape: BatchShape) -> int:
        """Pairs of DPO, sequences otherwise."""
        return len(shape.targets) // (2 if self.settings.objective == "dpo" else 1)

    def _step(self, shapes: Sequence[BatchShape]) -> StepShare[MicroBatch]:
        batches, first = [], 0
        for shape in shapes:
            last = first + self._samples(shape)
            batches.append(MicroBatch(packed_of(shape), 1, tuple(range(first, last))))
            first = last
        units = float(first) if self.settings.objective in ("dpo", "kto") else 1.0
        tokens = sum(shape.num_tokens for shape in shapes)
        return StepShare(1, units, batches, tokens, "a dry run")


def _never(step: int, error: BaseException) -> None:
    raise error


def packed_of(shape: BatchShape) -> PackedBatch:
    """A packed batch of this shape, of zeros."""
    nodes = tuple(Node(start, stop, path) for start, stop, path in shape.nodes)
    positions = np.zeros(shape.num_tokens, dtype=np.int32)
    for node in nodes:
        depth = sum(stop - start for start, stop in node.path)
        positions[node.start : node.stop] = np.arange(depth, depth + node.stop - node.start)
    rows, owners = [], []
    for sequence, (count, leaf) in enumerate(zip(shape.targets, shape.leaves, strict=True)):
        node = nodes[leaf]
        path = [np.arange(start, stop) for start, stop in (*node.path, (node.start, node.stop))]
        rows.append(np.concatenate(path)[-count:] if count else np.zeros(0, dtype=np.int64))
        owners.append(np.full(len(rows[-1]), sequence))
    row = np.concatenate(rows).astype(np.int32)
    return PackedBatch(
        ids=np.zeros(shape.num_tokens, dtype=np.int32),
        positions=positions,
        nodes=nodes,
        target_row=row,
        target_token=np.zeros(len(row), dtype=np.int32),
        target_weight=np.ones(len(row), dtype=np.float32),
        target_sequence=np.concatenate(owners).astype(np.int32),
        num_sequences=len(shape.targets),
        sample_T=np.zeros(shape.num_tokens, dtype=np.int64),
        sequence_samples=np.arange(len(shape.targets), dtype=np.int32),
    )


if __name__ == "__main__":
    sys.exit(main())
