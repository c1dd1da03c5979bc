"""One frozen class for each kind of event, with the fields that a run writes.

A field of which nothing is known is left out of the line; older runs, which did not have it, are
read like that too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from luthier.events.line import Event, written_as_null
from luthier.json_values import Json, JsonObject

Figures = Mapping[str, float]
"""Numbers by name."""


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A process begins to work at the run.

    Attributes:
        model: As the settings name it.
        dataset: Files or names, as the settings have them.
        method: `full`, `lora` or `qlora`.
        objective: `sft` or `dpo`.
        device: The name of the device of the first rank.
        devices: How many train together.
        environment: What besides settings and data decides the last bits of a result.
        path: The run directory.
    """

    type: ClassVar[str] = "started"
    synced: ClassVar[bool] = True
    model: str | None = None
    dataset: Sequence[str] | None = None
    method: str | None = None
    objective: str | None = None
    device: str | None = None
    devices: int | None = None
    environment: Mapping[str, Json] | None = None
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Said(Event):
    """A sentence; where it judges the course of the run, with what a translation needs.

    Attributes:
        text: What is said, in English.
        code: Of a judgement, a name that does not change.
        params: Of a judgement, its numbers.
        action: Of a judgement, what to do.
    """

    text: str
    code: str | None = None
    params: Mapping[str, Json] | None = None
    action: str | None = None


@dataclass(frozen=True, kw_only=True)
class Notice(Said):
    """Something was decided for the user, or found, with its reason."""

    type: ClassVar[str] = "notice"


@dataclass(frozen=True, kw_only=True)
class Warned(Said):
    """Something to look at."""

    type: ClassVar[str] = "warning"


@dataclass(frozen=True, kw_only=True)
class DataRead(Event):
    """What the rows became: the contents of `data.json`.

    Attributes:
        train: Files, rows, tokens and lengths of the training rows.
        eval: The same of the held-out rows, where there are any.
    """

    type: ClassVar[str] = "data"
    train: Mapping[str, Json] = field(default_factory=dict)
    eval: Mapping[str, Json] | None = None


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """Everything is decided: the contents of `plan.json`.

    Attributes:
        steps: Optimiser steps of the whole run.
        steps_per_epoch: Optimiser steps of one pass over the training rows.
        samples: Training samples (rows, or pairs of answers).
        held_out: Held-out samples.
        samples_per_step: Samples of one optimiser step, over all devices.
        micro_batch_tokens: Most tokens computed at once on a device; null where nothing bounds them.
        parameters: Weights of the model.
        trained_parameters: Weights that are trained.
        static_bytes: Weights, gradients and optimiser state of one device.
        disk_bytes: Checkpoints and result.
        predicted: Memory and time that the planner expects, and what they rest on.
        chosen: Values that were left open: each with its value and its reason.
    """

    type: ClassVar[str] = "planned"
    steps: int | None = None
    steps_per_epoch: int | None = None
    samples: int | None = None
    held_out: int | None = None
    samples_per_step: int | None = None
    micro_batch_tokens: int | None = written_as_null()
    parameters: int | None = None
    trained_parameters: int | None = None
    static_bytes: int | None = None
    disk_bytes: int | None = None
    predicted: Mapping[str, Json] | None = None
    chosen: Mapping[str, Sequence[Json]] | None = None


@dataclass(frozen=True, kw_only=True)
class PlanChecked(Event):
    """Measured memory beside the predicted, after the first steps.

    Attributes:
        predicted_bytes: Of the plan.
        measured_bytes: Of the device.
        error: Predicted less measured, as a share of the measured.
        measured_by: What measured.
    """

    type: ClassVar[str] = "plan_checked"
    predicted_bytes: int
    measured_bytes: int
    error: float
    measured_by: str


@dataclass(frozen=True, kw_only=True)
class ReferenceScored(Event):
    """Progress of scoring the pairs with the reference model of DPO.

    Attributes:
        done: Pairs scored.
        total: Pairs in all.
    """

    type: ClassVar[str] = "reference"
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """The run goes on from a checkpoint; what came behind it is void.

    Attributes:
        from_step: The step of the checkpoint; 0 where the run begins anew.
    """

    type: ClassVar[str] = "resumed"
    synced: ClassVar[bool] = True
    from_step: int


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """An optimiser step was made.

    Attributes:
        step: Its number, from 1.
        total: Steps of the whole run.
        loss: Mean over the units, in nats.
        grad_norm: Of the gradient before clipping.
        learning_rate: Of this step.
        metrics: Means of the objective over the units.
        units: What the loss is a mean over: learned weight of tokens, pairs, or labelled answers.
        unit: `token`, `pair` or `row`.
        tokens: Computed by all devices.
        micro_batches: Forward and backward passes of one device.
        seconds: Wall time of the step.
        tokens_per_s: Tokens by seconds.
        eta_s: Seconds until the last step, at the present pace.
    """

    type: ClassVar[str] = "step"
    step: int
    total: int | None = None
    loss: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    metrics: Figures | None = None
    units: float | None = None
    unit: str | None = None
    tokens: int | None = None
    micro_batches: int | None = None
    seconds: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """The held-out rows were scored.

    Attributes:
        step: After which; 0 is the model before training.
        metrics: Means over the held-out units; `loss` is always one of them.
        best: Whether it is the best so far.
        best_step: The step of the best; null where nothing was better than the base.
        start_was_better: Whether even this best is worse than the model before training.
        seconds: Wall time.
    """

    type: ClassVar[str] = "evaluated"
    step: int
    metrics: Figures
    best: bool | None = None
    best_step: int | None = written_as_null()
    start_was_better: bool | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class SampleAnswered(Event):
    """The model answered a held-out prompt, or a question of `sample_prompts`.

    Attributes:
        step: After which.
        prompt: As text.
        answer: Of the model.
        expected: Of the row; empty for a question of the settings, which has no right answer.
        whole: Whether the answer came to its end.
    """

    type: ClassVar[str] = "sample"
    step: int
    prompt: str
    answer: str
    expected: str
    whole: bool


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is whole on disk.

    Attributes:
        step: After which.
        path: Its folder.
        bytes: Its size.
        seconds: Wall time of writing.
        removed: Older checkpoints that made room, by path.
    """

    type: ClassVar[str] = "checkpoint"
    synced: ClassVar[bool] = True
    step: int
    path: str
    bytes: int | None = None
    seconds: float | None = None
    removed: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The run ended by itself, or was asked to.

    Attributes:
        step: The last that was made.
        reason: `completed`, `early_stopping`, `ended_on_request` or `interrupted`.
        result: The folder of the result; null where there is none.
        seconds: Wall time of this process.
        summary: Everything `luthier.train` returns.
    """

    type: ClassVar[str] = "finished"
    synced: ClassVar[bool] = True
    step: int
    reason: str
    result: str | None = written_as_null()
    seconds: float | None = None
    summary: JsonObject | None = None


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The run ended with an error.

    Attributes:
        code: Of the error; E000 where it has none.
        what: What went wrong, with the value.
        why: The rule behind it.
        fix: What to do.
    """

    type: ClassVar[str] = "failed"
    synced: ClassVar[bool] = True
    code: str = "E000"
    what: str = ""
    why: str = ""
    fix: str = ""


KINDS: tuple[type[Event], ...] = (
    Started, Notice, Warned, DataRead, Planned, PlanChecked, ReferenceScored, Resumed, Step,
    Evaluated, SampleAnswered, CheckpointSaved, Finished, Failed,
)  # fmt: skip
"""Every kind, about in the order of a run."""
