"""Fine-tune: from settings to a run directory with its result.  Assembly only."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from luthier.config.read import Resolved, load_saved
from luthier.durable import write_atomic
from luthier.engine.best import Best
from luthier.engine.checkpoint import Loaded, load_latest
from luthier.engine.distribution import Ranks, join_ranks, leave_ranks
from luthier.engine.environment import environment, restore_environment
from luthier.engine.evaluate import evaluate
from luthier.engine.interrupt import Interrupt
from luthier.engine.loop import Interrupted, LoopState, train
from luthier.engine.monitor import Monitor
from luthier.errors import LuthierError, NonFiniteError, RankError
from luthier.events import Failed, Finished, Resumed, Started, Warned
from luthier.recipes.before.inputs import Inputs
from luthier.recipes.run import assembly, prepare
from luthier.recipes.run.choices import (
    check_devices,
    free_devices,
    lease_names,
    this_machine,
)
from luthier.recipes.run.context import RunContext
from luthier.recipes.run.determinism import deterministic
from luthier.recipes.run.launch import launch, read_launch
from luthier.recipes.run.objective import Objective, PairObjective, TokenObjective
from luthier.recipes.run.plan_check import PlanCheck
from luthier.recipes.run.reference import reference_values
from luthier.recipes.run.result import write_result
from luthier.recipes.run.samples import Samples
from luthier.recipes.run.saving import Keeper
from luthier.recipes.run.steps import EvalSource, StepSource
from luthier.recipes.run.trainee import Trainee
from luthier.recipes.run.voice import Voice
from luthier.recipes.run.watch import Watcher
from luthier.runs import EventLog, RunDirectory, device_lease
from luthier.runs.log import Listener
from luthier.sources.source import ModelSource
from luthier.trackers import reporting

LOSS_SCALE = 2.0**14
"""First loss scale of float16, whose small gradients would be zero."""

_PER_DEVICE = {"per_device_train_batch_size"}  # chosen anew for another number of devices


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Args:
        reason: `completed`, `early_stopping` or `interrupted`.
        exit_code: 0, or 130 / 143 after a stop by signal.
        before, last, best: Held-out means; empty without held-out data.
    """

    path: Path
    reason: str
    step: int
    result: Path | None = None
    before: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    exit_code: int = 0
    seconds: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the `finished` event."""
        return {
            **self.__dict__,
            "path": str(self.path),
            "result": str(self.result) if self.result else None,
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "RunResult":
        """Back from `as_dict`."""
        result = Path(saved["result"]) if saved["result"] else None
        return cls(**{**saved, "path": Path(saved["path"]), "result": result})


def run(resolved: Resolved, *, on_event: Listener | None = None) -> RunResult:
    """Train as the settings say; in this process, or in one for each device.

    Args:
        on_event: Called with every event of the run.

    Raises:
        LuthierError: With what, why and fix; the run directory then says `failed`.
    """
    settings = resolved.settings
    check_devices(settings.devices)
    devices = free_devices(settings.devices)
    with device_lease(*lease_names(devices)):
        directory = RunDirectory.create(
            settings.output_dir,
            name_parts=[settings.model, settings.dataset[0]],
            resume=settings.resume,
            datasets=[Path(name) for name in settings.dataset],
        )
        if settings.devices > 1:
            body = json.dumps({**resolved.as_dict(), "config": resolved.config_text})
            with directory.lock():  # refused while another process works here
                write_atomic(directory.path / "launch.json", body)
        return run_leased(resolved, directory, on_event, devices)


def run_leased(
    resolved: Resolved, directory: RunDirectory, on_event: Listener | None, devices: Sequence[int]
) -> RunResult:
    """Train in a directory that exists, by one whose devices are taken already.

    For several devices `launch.json` of the run holds the settings.
    """
    if len(devices) == 1:
        return run_rank(resolved, directory, Ranks(), on_event, device=devices[0])
    last = launch(directory.path, lease_names(devices), len(devices), on_event or (lambda _: None))
    if isinstance(last, Failed):
        known = last.code != "E000"
        said = f"what every process said is in {directory.path / 'stderr.log'}"
        raise RankError(
            last.what,
            why=last.why or "one of the processes failed, perhaps not the one that says so",
            fix=last.fix if known else said,
        )
    return RunResult.from_dict(dict(last.summary or {}))


def run_launched(path: Path) -> int:
    """What each worker process of several does; returns its exit status."""
    resolved, _ = read_launch(path)
    try:
        run_rank(resolved, RunDirectory.open(path), join_ranks(), None)
    except LuthierError:
        return 2  # the first rank wrote it into the events
    leave_ranks()
    return 0


def run_rank(
    resolved: Resolved,
    directory: RunDirectory,
    ranks: Ranks,
    on_event: Listener | None,
    *,
    device: int = 0,
) -> RunResult:
    """The whole run, as one rank of it; `device` is the number of a single one's GPU."""
    with contextlib.ExitStack() as stack:
        log = None
        if ranks.first:
            stack.enter_context(directory.lock())
            log = stack.enter_context(EventLog(directory, [on_event] if on_event else []))
            Voice(log, directory)
            stack.enter_context(reporting(resolved.settings.report_to, log, directory))
        interrupt, machine = stack.enter_context(Interrupt()), this_machine(device + ranks.rank)
        stack.enter_context(deterministic(machine, resolved.settings.deterministic))
        context = RunContext(resolved, directory, ranks, log, interrupt, machine)
        monitor = Monitor(directory.monitor_file, device=machine.device) if ranks.first else None
        if monitor:
            stack.enter_context(monitor)
        started = time.monotonic()
        try:
            result = _go(context)
        except Interrupted:
            result = RunResult(directory.path, "interrupted", 0)
        except BaseException as error:
            _say_failed(context, error)
            raise
        code = (interrupt.requested or 0) if result.reason == "interrupted" else 0
        seconds, peaks = time.monotonic() - started, monitor.peaks() if monitor else {}
        result = dataclasses.replace(result, exit_code=code, seconds=seconds, peaks=peaks)
        summary = result.as_dict()
        shown = {name: summary[name] for name in ("step", "reason", "result", "seconds")}
        context.emit(Finished(**shown, summary=summary))
        return result


def _go(context: RunContext) -> RunResult:
    """Data, model, steps, result; in this order, so that what is wrong shows early."""
    loaded = _begin(context)
    source = prepare.find_model(context)
    inputs = prepare.read_data(context, source)
    if loaded is None:
        prepare.record_data(context, inputs)
    trainee = prepare.load_trainee(context, source, inputs)
    settings = context.settings

    planner = assembly.make_planner(context, inputs, trainee)
    best = Best(settings.metric_for_best_model, settings.early_stopping_patience)
    loop = LoopState(LOSS_SCALE if trainee.dtype == torch.float16 else 1.0)
    updater = assembly.make_updater(context, trainee)
    steps = StepSource(context, inputs.train, planner, max_sequences=trainee.max_sequences)
    held_out = EvalSource(context, inputs.held_out, max_sequences=trainee.max_sequences)
    prints = prepare.fingerprints(context, source, inputs)
    keeper = Keeper(
        context.directory,
        context.log,
        updater=updater,
        source=steps,
        held_out=held_out,
        loop=loop,
        best=best,
        ranks=context.ranks,
        fingerprints=prints,
        num_steps=planner.num_steps,
        keep=settings.save_total_limit,
    )
    if loaded is not None:  # what does not fit is refused before anything of the run is replaced
        longer = keeper.check(loaded)
        prepare.record_data(context, inputs)
        if longer:
            context.emit(Warned(text=longer))
    assembly.write_plan(context, trainee, planner, inputs)
    learn = _objective(context, trainee, inputs.train, prints)
    judge = _objective(context, trainee, inputs.held_out, prints) if inputs.held_out else None

    watcher = Watcher(
        context.log,
        assembly.make_rhythm(context, planner, bool(judge)),
        best,
        loop,
        evaluate=_evaluation(context, judge, held_out),
        save=keeper.save,
        stop_requested=lambda: context.ranks.any(context.stop_requested()),
        end_requested=lambda: context.ranks.any(context.end_requested()),
        unit="pair" if settings.objective == "dpo" else "token",
    )
    if context.log is not None:
        Samples(context.log, trainee, inputs.tokenizer, inputs.held_out)
    keeper.extra = watcher.saved_state
    if loaded is not None:
        keeper.restore(loaded, patience=settings.early_stopping_patience)
        context.emit(Resumed(from_step=loaded.step))
        watcher.resume(loaded.step, loaded.state["extra"])
    else:
        watcher.run_evaluation(0)
    reason = "early_stopping"
    check = PlanCheck(context, trainee.num_params, watcher)
    if not best.exhausted or updater.step == planner.num_steps:
        reason = train(
            learn,
            steps.plan,
            updater,
            first_step=updater.step + 1,
            last_step=planner.num_steps,
            learning_rate=assembly.schedule(settings, planner.num_steps),
            on_step=check,
            shrink=steps.shrink,
            ranks=context.ranks,
            state=loop,
            should_stop=context.stop_requested,
            on_non_finite=lambda error: _keep_last_good(error, updater.step, watcher),
        )
    check.finish()
    return _end(context, reason, source, trainee, inputs, keeper, watcher)


def _keep_last_good(error: NonFiniteError, step: int, watcher: Watcher) -> NonFiniteError:
    """Save the weights as they were before the step that gave no number, and say where they are."""
    if step == 0:
        return NonFiniteError(error.what, why=f"{error.why}; no step was made", fix=error.fix)
    watcher.save_once(step)
    kept = f"; checkpoint step-{step:06d} has the weights before it"
    return NonFiniteError(error.what, why=error.why + kept, fix=error.fix)


def _say_failed(context: RunContext, error: BaseException) -> None:
    """The last event of a run that failed; where even that cannot be written, the error still rises."""
    said: dict[str, Any] = {
        "code": "E000",
        "why": "",
        "fix": f"luthier runs show {context.directory.path}",
    }
    if isinstance(error, LuthierError):
        said |= error.as_dict()
    elif isinstance(error, KeyboardInterrupt):
        said |= {"what": "stopped at once, by a second Ctrl-C"}
        said |= {"fix": "go on from the last checkpoint: --resume true"}
    else:
        said |= {"what": f"{type(error).__name__}: {error}"}
    try:
        context.emit(Failed(**said))
    except LuthierError as worse:
        error.add_note(f"and events.jsonl could not be written: {worse.what}")


def _begin(context: RunContext) -> Loaded | None:
    """Say who we are; on a resume, take the checkpoint and the values that were chosen then."""
    settings, directory = context.settings, context.directory
    loaded = load_latest(directory.checkpoints) if settings.resume else None
    again = directory.config_file.exists()
    if context.ranks.first and not again:
        write_atomic(directory.settings_file, context.resolved.to_json())
        write_atomic(directory.config_file, context.resolved.config_text)
    context.emit(Started(
        model=settings.model, dataset=list(settings.dataset), method=settings.method,
        objective=settings.objective, device=context.machine.name, devices=context.ranks.size,
        environment=environment(), path=str(directory.path),
    ))  # fmt: skip
    for text in context.resolved.notices:
        context.notice(text)
    if loaded is None:
        if again:
            context.emit(Resumed(from_step=0))  # whatever was done before, nothing of it is left
        return None
    for text in [*loaded.skipped, *restore_environment(loaded.environment)]:
        context.emit(Warned(text=text))
    saved = load_saved(directory.settings_file)
    context.resolved = context.resolved.fill(
        **{
            name: decision
            for name, decision in saved.decided().items()
            if not context.resolved.is_given(name)
            and (name not in _PER_DEVICE or saved.settings.devices == settings.devices)
        }
    )
    return loaded


def _objective(
    context: RunContext, trainee: Trainee, examples: list[Any], prints: dict[str, str]
) -> Objective:
    settings = context.settings
    if settings.objective != "dpo":
        return TokenObjective(trainee)
    reference_P2 = (
        reference_values(context, trainee, examples, prints) if settings.needs_reference else None
    )
    return PairObjective(trainee, reference_P2, settings)


def _evaluation(
    context: RunContext, judge: Objective | None, held_out: EvalSource
) -> Callable[[], dict[str, float]] | None:
    if judge is None:
        return None
    return lambda: evaluate(
        judge,
        lambda: held_out.plan(0),
        shrink=held_out.shrink,
        ranks=context.ranks,
        should_stop=context.stop_requested,
    )


def _end(
    context: RunContext,
    reason: str,
    source: ModelSource,
    trainee: Trainee,
    inputs: Inputs,
    keeper: Keeper,
    watcher: Watcher,
) -> RunResult:
    """The last checkpoint, and the result: the best held-out weights where there are any."""
    step = keeper.updater.step
    path = None
    if reason == "interrupted":
        if step:
            watcher.save_once(step)
    else:
        watcher.save_once(step)
        best = watcher.best.step
        if best is not None and best != step:
            context.notice(f"the result is step {best}, the best of all evaluations, not the last")
            keeper.load_best()
        watcher.say_no_gain()
        path = write_result(context, source, trainee, inputs, watcher.history)
    return RunResult(
        context.directory.path,
        reason,
        step,
        path,
        before=watcher.history.get("before", {}),
        last=watcher.history.get("last", {}),
        best=watcher.history.get("best", {}),
        best_step=watcher.best.step,
    )
