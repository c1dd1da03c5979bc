"""Bugs that fine-tuning tools have had, each as a patch of the product's own functions.

    LUTHIER_INJECT=double_bos pytest -p tests.invariants.injections tests/invariants

runs any test under one of them.  `python -m tests.invariants.injections REPORT ID...` runs the
tests ID, up to the first failure, under each in turn and without any, in children of one warm process;
REPORT gets a line of JSON for each.
"""

import json
import os
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

INJECTIONS: dict[str, Callable[[], None]] = {}
NAME, REPORT = "LUTHIER_INJECT", "LUTHIER_INJECT_REPORT"
Patch = Callable[[Any], Any]


def injection(bug: Callable[[], None]) -> Callable[[], None]:
    INJECTIONS[bug.__name__] = bug
    return bug


def put(owner: Any, name: str, make: Patch) -> None:
    """Replace a function by one made from it, wherever luthier has imported it."""
    original = getattr(owner, name)
    patched = make(original)
    setattr(owner, name, patched)
    for known, module in list(sys.modules.items()):
        if known.startswith(("luthier", "tests.")) and getattr(module, name, None) is original:
            setattr(module, name, patched)


# -- normalisation


def _steps(change: Callable[[Any, Any], Any]) -> None:
    """Change each step of the loop after it is planned, given whether the loss is of tokens."""
    from luthier.engine import loop
    from luthier.recipes.run.objective import TokenObjective

    def make(train: Any) -> Any:
        def patched(objective: Any, plan: Any, *args: Any, **kwargs: Any) -> Any:
            of_tokens = isinstance(objective, TokenObjective)
            return train(objective, lambda n: change(plan(n), of_tokens), *args, **kwargs)

        return patched

    put(loop, "train", make)


def _counted(step: Any, of_tokens: bool) -> Any:
    """The step with the units that its batches really have, as a naive plan would count them."""
    parts = [batch.packed.units if of_tokens else len(batch.samples) for batch in step.batches]
    return step._replace(units=float(sum(parts)))


def _mean_of_each_micro_batch(*, over_batches: bool) -> None:
    from luthier.engine import loop

    def make(train: Any) -> Any:
        def patched(objective: Any, plan: Any, *args: Any, **kwargs: Any) -> Any:
            now: list[Any] = []

            def planned(number: int) -> Any:
                now[:] = [plan(number)]
                return now[0]

            def mean(batch: Any) -> Any:
                terms, step = objective(batch), now[0]
                factor = step.units / float(terms.units)
                factor /= len(step.batches) if over_batches else 1
                return terms._replace(loss_sum=terms.loss_sum * factor)

            return train(mean, planned, *args, **kwargs)

        return patched

    put(loop, "train", make)


@injection
def mean_of_means() -> None:
    """Accumulation averages the means of micro-batches of different sizes."""
    _mean_of_each_micro_batch(over_batches=True)


@injection
def divided_by_micro_batch() -> None:
    """Each micro-batch divides by its own tokens, and nothing by their number."""
    _mean_of_each_micro_batch(over_batches=False)


@injection
def averaged_over_ranks() -> None:
    """Gradients of ranks are averaged, as DDP does, although the loss is divided already."""
    from luthier.engine.distribution import Ranks

    def make(sum_gradients: Any) -> Any:
        def patched(self: Any, gradients: Any) -> None:
            sum_gradients(self, gradients)
            for gradient in gradients:
                gradient /= self.size

        return patched

    put(Ranks, "sum_gradients", make)


@injection
def ragged_micro_batch_dropped() -> None:
    """The last micro-batch of a step is left out."""
    _steps(
        lambda step, of_tokens: (
            _counted(step._replace(batches=step.batches[:-1]), of_tokens)
            if len(step.batches) > 1
            else step
        )
    )


# -- rows and masks


def _sequences(change: Callable[[Any, Any], Any]) -> None:
    """Change every rendered sequence, given the tokenizer."""
    from luthier.data.rendering.render import Renderer

    def make(sequence: Any) -> Any:
        return lambda self, draft: change(sequence(self, draft), self.tokenizer)

    put(Renderer, "_sequence", make)
    _render_here()


def _render_here() -> None:
    """Render every template in this process: a bug that is put in here is none in a child."""
    from luthier.data.limited import opening

    for name in ("is_ours", "is_plain"):
        put(opening, name, lambda _: lambda asked: True)


@injection
def terminator_masked() -> None:
    """The end mark carries no loss, as where pad = EOS and padding is masked by id."""
    _sequences(
        lambda made, tokenizer: replace(
            made, weights=np.where(made.ids == tokenizer.eos_id, 0, made.weights).astype("f4")
        )
    )


@injection
def first_answer_token_lost() -> None:
    """The mask of each learned stretch begins one token late."""

    def change(made: Any, tokenizer: Any) -> Any:
        before = np.concatenate([[0.0], made.weights[:-1]])
        return replace(made, weights=np.where(before > 0, made.weights, 0).astype("f4"))

    _sequences(change)


@injection
def double_bos() -> None:
    """The template writes a BOS and the tokenizer adds another."""

    def change(made: Any, tokenizer: Any) -> Any:
        first = np.array([tokenizer.bos_id], np.int32)
        weights = np.concatenate([np.zeros(1, np.float32), made.weights])
        return replace(made, ids=np.concatenate([first, made.ids]), weights=weights)

    _sequences(change)


@injection
def mask_shifted_by_truncation() -> None:
    """Ids lose their end and their mask loses its start."""
    from luthier.data.rendering import truncate

    def make(cut_end: Any) -> Any:
        def patched(sequence: Any, limit: int) -> Any:
            weights = sequence.weights[-limit:].copy()
            weights[0] = 0
            return replace(cut_end(sequence, limit), weights=weights)

        return patched

    put(truncate, "cut_end", make)
    _render_here()


# -- packing


def _batches(change: Callable[[Any], Any]) -> None:
    from luthier.data.packing import pack as packing

    def make(pack: Any) -> Any:
        return lambda *args, **kwargs: change(pack(*args, **kwargs))

    put(packing, "pack", make)


@injection
def boundary_label() -> None:
    """The first token of a sequence is predicted from the end of the one before it in the row."""

    def change(batch: Any) -> Any:
        starts = [node.start for node in batch.nodes if node.start and not node.path]
        owners = [batch.target_sequence[batch.target_row >= start][0] for start in starts]
        return replace(
            batch,
            target_row=np.append(batch.target_row, np.int32([start - 1 for start in starts])),
            target_token=np.append(batch.target_token, batch.ids[starts]),
            target_weight=np.append(batch.target_weight, np.ones(len(starts), np.float32)),
            target_sequence=np.append(batch.target_sequence, np.int32(owners)),
        )

    _batches(change)
    _steps(_counted)


@injection
def branch_target_lost() -> None:
    """A row predicts one target, so all children of a branch but one are lost."""

    def change(batch: Any) -> Any:
        _, first = np.unique(batch.target_row, return_index=True)
        names = ("target_row", "target_token", "target_weight", "target_sequence")
        return replace(batch, **{name: getattr(batch, name)[first] for name in names})

    _batches(change)
    _steps(_counted)


@injection
def unreset_positions() -> None:
    """Positions count through the row."""
    _batches(lambda batch: replace(batch, positions=np.arange(len(batch.ids), dtype=np.int32)))


@injection
def leaked_attention() -> None:
    """Every token of the row sees all tokens before it, whatever their sequence."""
    from luthier.data.packing.pack import Node
    from luthier.kernels.attention.layout import TreeLayout

    from_batch = TreeLayout.from_batch.__func__  # type: ignore[attr-defined]

    def patched(cls: Any, batch: Any, device: Any = "cpu") -> Any:
        return from_batch(cls, replace(batch, nodes=(Node(0, len(batch.ids), ()),)), device)

    TreeLayout.from_batch = classmethod(patched)  # type: ignore[method-assign, assignment]


# -- model


def _attention(**without: Any) -> None:
    from luthier.kernels.attention import interface

    def make(attend: Any) -> Any:
        return lambda *args, **kwargs: attend(*args, **{**kwargs, **without})

    put(interface, "attend", make)


@injection
def window_ignored() -> None:
    """Layers with a sliding window see everything."""
    _attention(window=None)


@injection
def soft_cap_ignored() -> None:
    """Attention scores are not capped."""
    _attention(softcap=None)


@injection
def lora_scale_ignored() -> None:
    """The adapter is not scaled by alpha over rank."""
    from luthier.kernels import lora_linear

    put(lora_linear, "lora_scale", lambda _: lambda *args, **kwargs: 1.0)


# -- preference


@injection
def swapped_pair() -> None:
    """The rejected answer is preferred."""
    import luthier.objectives.dpo as objective

    def make(dpo: Any) -> Any:
        def patched(logp_S: Any, *, sequence_S: Any, reference_N: Any, **kwargs: Any) -> Any:
            swapped_N = reference_N.view(-1, 2).flip(1).reshape(-1)
            return dpo(logp_S, sequence_S=sequence_S ^ 1, reference_N=swapped_N, **kwargs)

        return patched

    put(objective, "dpo", make)


@injection
def reference_with_dropout() -> None:
    """The reference is scored with the adapter's dropout on."""
    from luthier.recipes.run import reference

    def make(reference_values: Any) -> Any:
        def patched(post: Any, trainee: Any, *args: Any, **kwargs: Any) -> Any:
            dropping = types.SimpleNamespace(score=lambda batch: trainee.score(batch, step=1))
            return reference_values(post, dropping, *args, **kwargs)

        return patched

    put(reference, "reference_values", make)


# -- as a plugin


def pytest_configure() -> None:
    if name := os.environ.get(NAME):
        _import_everything()
        INJECTIONS[name]()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if (path := os.environ.get(REPORT)) and report.failed:
        error = getattr(report.longrepr, "reprcrash", None)
        said = error.message.splitlines()[0] if error else str(report.longrepr)[-200:]
        line = {"bug": os.environ.get(NAME), "test": report.nodeid, "error": said}
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")


def _import_everything() -> None:
    import bitsandbytes.functional
    import tests.invariants.product
    import transformers.models.gemma2.modeling_gemma2
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.llama.modeling_llama
    import transformers.models.mistral.modeling_mistral

    import luthier.recipes.api

    assert all((bitsandbytes, transformers, luthier.recipes, tests.invariants))


# -- as a command


def _start(name: str, tests: list[str], report: str) -> None:
    """Fork; the child runs the tests under one bug, and writes what caught it."""
    if os.fork():
        return
    os.environ |= {NAME: name, REPORT: f"{report}.{name}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    output = os.open(f"{report}.{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    options = ["-p", "tests.invariants.injections", "-p", "no:cacheprovider", "-x", "-q"]
    options += ["--tb=short", "-W", "ignore", f"--basetemp={report}.{name}.tmp"]
    status = pytest.main([*options, *tests])
    sys.stdout.flush()
    with Path(f"{report}.{name}").open("a") as file:
        file.write(
            json.dumps({"bug": name, "status": int(status), "cpu_s": time.process_time()}) + "\n"
        )
    os._exit(0)


def main() -> None:
    report, *tests = sys.argv[1:]
    import torch

    torch.set_num_threads(1)  # before the forks: a pool of threads does not survive them
    _import_everything()
    running = 0
    for name in ("", *INJECTIONS):
        if running == 2:
            os.wait()
            running -= 1
        _start(name, tests, report)
        running += 1
    for _ in range(running):
        os.wait()


if __name__ == "__main__":
    main()
