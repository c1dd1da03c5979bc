"""One rank of one run, from its settings to its result."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from luthier.config.launch_file import NOTHING, Wishes
from luthier.config.read import Resolved, load_saved
from luthier.data.packing.steps import StepPlanner
from luthier.data.types import Ids
from luthier.engine.best import Best
from luthier.engine.checkpoint import LoadedCheckpoint, load_latest
from luthier.engine.determinism import deterministic
from luthier.engine.distribution import Ranks
from luthier.engine.environment import restore_environment
from luthier.engine.interrupt import Interrupt
from luthier.engine.loop import Interrupted, LoopState, train
from luthier.engine.monitor import Monitor
from luthier.engine.optim import Updater
from luthier.errors import LuthierError, NonFiniteError
from luthier.events import Failed, Finished, Resumed, Warned
from luthier.inference.generate import context_of
from luthier.recipes.before.inputs import Inputs
from luthier.recipes.run import assembly, prepare, record
from luthier.recipes.run.context import Post, RunContext
from luthier.recipes.run.devices import facts_of, torch_device
from luthier.recipes.run.objective import with_facts
from luthier.recipes.run.plan_check import PlanCheck
from luthier.recipes.run.result import write_result
from luthier.recipes.run.samples import Samples, questions_of
from luthier.recipes.run.saving import Keeper
from luthier.recipes.run.steps import EvalSource, StepSource, make_cutter
from luthier.recipes.run.trainee import Trainee
from luthier.recipes.run.voice import Voice
from luthier.recipes.run.watch import Watcher
from luthier.runs import EventLog, RunDirectory
from luthier.runs.ended import RunResult
from luthier.runs.log import Listener
from luthier.sources.source import ModelSource
from luthier.trackers import reporting

LOSS_SCALE = 2.0**14
"""First loss scale of float16, whose small gradients would be zero."""

_PER_DEVICE = {"per_device_train_batch_size"}  # chosen anew for another number of devices


def run_rank(
    resolved: Resolved,
    directory: RunDirectory,
    ranks: Ranks,
    on_event: Listener | None,
    *,
    device: int = 0,
    wishes: Wishes = NOTHING,
) -> RunResult:
    """The whole run, as one rank of it; `device` is the number of a single one's GPU."""
    with contextlib.ExitStack() as stack:
        log = None
        if ranks.first:
            stack.enter_context(directory.lock())
            log = stack.enter_context(EventLog(directory, [on_event] if on_event else []))
            log.listen(Voice(log, directory).hear)
            stack.enter_context(reporting(resolved.settings.report_to, log, directory))
        interrupt, place = stack.enter_context(Interrupt()), torch_device(device + ranks.rank)
        stack.enter_context(deterministic(place, resolved.settings.deterministic))
        post = Post(directory, ranks, log, interrupt, place, facts_of(place), wishes)
        monitor = Monitor(directory.monitor_file, device=place) if ranks.first else None
        if monitor:
            stack.enter_context(monitor)
        started = time.monotonic()
        try:
            result = _go(post, resolved)
        except Interrupted:
            result = RunResult(directory.path, "interrupted", 0)
        except BaseException as error:
            _say_failed(post, error)
            raise
        code = (interrupt.requested or 0) if result.reason == "interrupted" else 0
        seconds, peaks = time.monotonic() - started, monitor.peaks() if monitor else {}
        result = dataclasses.replace(result, exit_code=code, seconds=seconds, peaks=peaks)
        said = result.as_dict()
        shown = {name: said[name] for name in ("step", "reason", "result", "seconds")}
        post.emit(Finished(**shown, summary=said))
        return result


def _go(post: Post, resolved: Resolved) -> RunResult:
    """Data, decisions, model, steps, result; in this order, so that what is wrong shows early."""
    loaded, resolved = _begin(post, resolved)
    source, resolved = prepare.find_model(post, resolved)
    inputs = prepare.read_data(post, resolved, source)
    if loaded is None:
        record.record_data(post, inputs)
    context = prepare.decide_run(post, resolved, source, inputs)
    trainee = prepare.load_trainee(context, source, inputs)
    return _train(context, source, inputs, trainee, loaded)


def _begin(post: Post, resolved: Resolved) -> tuple[LoadedCheckpoint | None, Resolved]:
    """Say who we are; on a resume, take the checkpoint and the values that were chosen then."""
    settings, directory = resolved.settings, post.directory
    loaded = load_latest(directory.checkpoints) if settings.resume else None
    again = record.record_start(post, resolved)
    if loaded is None:
        if again:
            post.emit(Resumed(from_step=0))  # whatever was done before, nothing of it is left
        return None, resolved
    for text in [*loaded.skipped, *restore_environment(loaded.environment)]:
        post.emit(Warned(text=text))
    saved = load_saved(directory.settings_file)
    same = saved.settings.devices == settings.devices
    kept = {
        name: decision
        for name, decision in saved.decided().items()
        if not resolved.is_given(name) and (same or name not in _PER_DEVICE)
    }
    return loaded, resolved.fill(**kept)


class _Machinery(NamedTuple):
    """What moves a run: its steps, the optimiser, and what is kept of both."""

    planner: StepPlanner
    updater: Updater
    loop: LoopState
    best: Best
    steps: StepSource
    held_out: EvalSource
    keeper: Keeper


def _assemble(
    context: RunContext, inputs: Inputs, trainee: Trainee, prints: Mapping[str, str]
) -> _Machinery:
    settings = context.settings
    planner = assembly.make_planner(context, inputs, trainee)
    updater = assembly.make_updater(context, trainee)
    loop = LoopState(LOSS_SCALE if trainee.dtype == torch.float16 else 1.0)
    best = Best(settings.metric_for_best_model, settings.early_stopping_patience)
    cutter, held_out = (
        make_cutter(context, examples, max_sequences=trainee.max_sequences)
        for examples in (inputs.train, inputs.held_out)
    )
    keeper = Keeper(
        context.directory,
        context.log,
        updater=updater,
        cutter=cutter,
        held_out=held_out,
        loop=loop,
        best=best,
        ranks=context.ranks,
        fingerprints=prints,
        num_steps=planner.num_steps,
        keep=settings.save_total_limit,
    )
    steps = StepSource(cutter, planner)
    return _Machinery(planner, updater, loop, best, steps, EvalSource(held_out), keeper)


def _train(
    context: RunContext,
    source: ModelSource,
    inputs: Inputs,
    trainee: Trainee,
    loaded: LoadedCheckpoint | None,
) -> RunResult:
    """From a loaded model to a result."""
    prints = record.fingerprints(context, source, inputs)
    made = _assemble(context, inputs, trainee, prints)
    if loaded is not None:  # what does not fit is refused before anything of the run is replaced
        longer = made.keeper.check(loaded)
        record.record_data(context, inputs)
        if longer:
            context.emit(Warned(text=longer))
    record.record_plan(context, trainee, made.planner, inputs)
    learn = assembly.make_objective(context, trainee, inputs.train, prints)
    watcher = _watch(context, inputs, trainee, prints, made)
    if loaded is not None:
        made.keeper.restore(loaded, patience=context.settings.early_stopping_patience)
        context.emit(Resumed(from_step=loaded.step))
        watcher.resume(loaded.step, loaded.state["extra"])
    else:
        watcher.run_evaluation(0)
    reason = "early_stopping"
    check = PlanCheck(context, trainee.num_params, watcher)
    updater, last = made.updater, made.planner.num_steps
    if not made.best.exhausted or updater.step == last:
        reason = train(
            learn,
            with_facts(learn, made.steps, context.stop_requested),
            updater,
            first_step=updater.step + 1,
            last_step=last,
            learning_rate=assembly.make_schedule(context, last),
            on_step=check,
            shrink=made.steps.shrink,
            ranks=context.ranks,
            state=made.loop,
            should_stop=context.stop_requested,
            on_non_finite=lambda error: _keep_last_good(error, updater.step, watcher),
        )
    check.finish()
    return _end(context, reason, source, trainee, inputs, made.keeper, watcher)


def _watch(
    context: RunContext,
    inputs: Inputs,
    trainee: Trainee,
    prints: Mapping[str, str],
    made: _Machinery,
) -> Watcher:
    """What happens between steps; sample answers are heard from here on, where they are wished for."""
    judge, ranks = None, context.ranks
    if inputs.held_out:
        judge = assembly.make_objective(context, trainee, inputs.held_out, prints)
    if context.log is not None:
        shown = inputs.held_out[: context.wishes.samples]
        questions = _questions(context, inputs, trainee)
        if shown or questions:
            heard = Samples(context.log, trainee, inputs.tokenizer, shown, questions)
            context.log.listen(heard.hear)
    return Watcher(
        context.log,
        assembly.make_rhythm(context, made.planner, bool(judge)),
        made.best,
        made.loop,
        evaluate=assembly.make_evaluation(context, judge, made.held_out),
        save=made.keeper.save,
        stop_requested=lambda: ranks.any(context.stop_requested()),
        end_requested=lambda: ranks.any(context.end_requested()),
        unit={"dpo": "pair", "kto": "row"}.get(context.settings.objective, "token"),
    )


def _questions(context: RunContext, inputs: Inputs, trainee: Trainee) -> list[tuple[str, Ids]]:
    """Those of `sample_prompts`, as they are asked."""
    if not (prompts := context.settings.sample_prompts):
        return []
    assert inputs.renderer is not None, "a run has what its rows were rendered with"
    return questions_of(prompts, inputs.renderer, context_of(trainee.model))


def _keep_last_good(error: NonFiniteError, step: int, watcher: Watcher) -> NonFiniteError:
    """Save the weights as they were before the step that gave no number, and say where they are."""
    if step == 0:
        return NonFiniteError(error.what, why=f"{error.why}; no step was made", fix=error.fix)
    watcher.save_once(step)
    kept = f"; checkpoint step-{step:06d} has the weights before it"
    return NonFiniteError(error.what, why=error.why + kept, fix=error.fix)


def _say_failed(post: Post, error: BaseException) -> None:
    """The last event of a run that failed; where even that cannot be written, the error still rises."""
    fix = f"luthier runs show {post.directory.path}"
    said: dict[str, Any] = {"code": "E000", "why": "", "fix": fix}
    if isinstance(error, LuthierError):
        said |= error.as_dict()
    elif isinstance(error, KeyboardInterrupt):
        said |= {"what": "stopped at once, by a second Ctrl-C"}
        said |= {"fix": "go on from the last checkpoint: --resume true"}
    else:
        said |= {"what": f"{type(error).__name__}: {error}"}
    try:
        post.emit(Failed(**said))
    except LuthierError as worse:
        error.add_note(f"and events.jsonl could not be written: {worse.what}")


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
