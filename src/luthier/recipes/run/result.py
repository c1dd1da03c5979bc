"""What a run leaves for use: adapter or model, tokenizer, rendering, model card."""

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from luthier.data.tokens.tokenizer import Tokenizer
from luthier.durable import DurableFolder
from luthier.events import Warned
from luthier.models.adapter_files import save_adapter
from luthier.models.save import save_model
from luthier.recipes.before.inputs import Inputs
from luthier.recipes.before.proof_wanted import skips_proof
from luthier.recipes.before.recorded import rendering
from luthier.recipes.run.context import Post, RunContext
from luthier.recipes.run.trainee import Trainee, quantisation_of
from luthier.recipes.written.ends import (
    Ends,
    base_generation,
    known_ends,
    learned_ends,
    write_ends,
)
from luthier.recipes.written.model_card import card
from luthier.recipes.written.proof import MEASURED, Case, prove
from luthier.recipes.written.rows import rows_to_check
from luthier.sources.source import ModelSource


def write_result(
    context: RunContext,
    source: ModelSource,
    trainee: Trainee,
    inputs: Inputs,
    history: dict[str, Any],
) -> Path | None:
    """`result/`, complete or absent; only the first rank writes.

    Raises:
        DiskFullError: Not enough space; the checkpoints are intact.
        NonFiniteError: A weight is not a number; nothing is published.
    """
    if not context.ranks.first:
        context.ranks.wait()
        return None
    target = context.directory.result
    needed = sum(weight.nbytes for weight in trainee.trained.values()) + 16 * 2**20
    kind = "model" if trainee.adapters is None else "adapter"
    with DurableFolder(target, kind=kind, record={}, needed_bytes=needed, replace=True) as new:
        if trainee.adapters is not None:
            save_adapter(trainee.adapters, new.path, source.base_for_others)
        else:
            save_model(trainee.model, new.path, config=source.config)
        write_text_side(
            new.path, inputs.tokenizer, rendering(context.settings, inputs.template, context.now)
        )
        ends = _say_ends(context, new.path, source, inputs)
        proof = _proven(context, new.path, source, trainee, inputs, ends)
        text = card(
            kind="model" if trainee.adapters is None else "adapter",
            settings=context.settings,
            base=source.name,
            version=version("luthier"),
            data=inputs.report,
            history=history,
            proof=proof,
        )
        (new.path / "README.md").write_text(text, "utf-8")
    context.ranks.wait()
    return target


def _say_ends(context: RunContext, folder: Path, source: ModelSource, inputs: Inputs) -> Ends:
    """The ends that were learned, in the files of the result, and one line about them."""
    generation = base_generation(source.base, source.config)
    tokenizer, template = inputs.tokenizer, inputs.template
    facts = None if inputs.renderer is None else inputs.renderer.facts
    ends = learned_ends(inputs.train, tokenizer, facts, known_ends(generation))
    said = write_ends(folder, ends, generation=generation, tokenizer=tokenizer, template=template)
    if said:
        context.notice(said)
    return ends


def _proven(
    context: RunContext,
    folder: Path,
    source: ModelSource,
    trainee: Trainee,
    inputs: Inputs,
    ends: Ends,
) -> list[str]:
    """What transformers reads of the result, said and for the card; empty where that is left out."""
    if skips_proof():
        return []
    quantised = trainee.adapters is not None and quantisation_of(context.settings) is not None
    assert inputs.renderer is not None
    case = Case(
        folder=folder,
        kind="model" if trainee.adapters is None else "adapter",
        base=source.base,
        rows=rows_to_check(inputs.renderer, inputs.first),
        examples=[example.sequences[0] for example in inputs.train[:MEASURED]],
        model=trainee.model,
        tokenizer=inputs.tokenizer,
        ends=ends.learned,
        dtype=str(trainee.dtype).removeprefix("torch."),
        num_bytes=sum(weight.nbytes for weight in trainee.model.parameters()),
        incomparable="the base is quantised here" if quantised else "",
    )
    proof = prove(case)
    for text in proof.alike:
        context.notice(text)
    for text in proof.differs:
        context.emit(Warned(text=text))
    return proof.lines


def write_text_side(folder: Path, tokenizer: Tokenizer, how: Mapping[str, Any]) -> None:
    """Tokenizer, the template that was trained with, and `rendering.json` into a folder.

    The template goes where other libraries look for it, also when the tokenizer carried none.

    Args:
        how: What `recipes.inputs.rendering` gave.
    """
    tokenizer.save(folder)
    if (template := how.get("chat_template")) is not None:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    text = json.dumps(dict(how), indent=2, ensure_ascii=False)
    (folder / "rendering.json").write_text(text + "\n", "utf-8")


def keep_start(context: Post, adapter: Path) -> Path:
    """A copy of the starting adapter inside the run, so that a resume has it whatever happens.

    The reference of a DPO run includes it.
    """
    kept = context.directory.path / "start"
    if context.ranks.first and not kept.exists():
        with DurableFolder(kept, kind="adapter", record={}, needed_bytes=0) as new:
            for name in ("adapter_config.json", "adapter_model.safetensors"):
                if (adapter / name).is_file():
                    shutil.copyfile(adapter / name, new.path / name)
    context.ranks.wait()
    return kept
