"""Write the result of a run for other tools: an adapter in PEFT's format, or one merged model.

A merged model is base plus adapter rounded to the precision it is saved in.  What the rounding costs
is measured, on rows of the training where they are still there: the difference between merged model
and adapter on its base, as a share of what the adapter changes at all.
"""

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luthier.bounded import decode
from luthier.config.read import load_saved
from luthier.durable import DurableFolder, hash_file
from luthier.errors import AdapterError, NonFiniteError
from luthier.events import Finished, read_events
from luthier.models.adapter_files import load_adapter
from luthier.models.build import generation_mode
from luthier.models.load import load_base
from luthier.models.save import save_model
from luthier.planner.choose import choose_dtype
from luthier.recipes.after.known_rows import KnownRows, known_rows
from luthier.recipes.after.open_model import training_of
from luthier.recipes.after.rendering import open_rendering
from luthier.recipes.before.proof_wanted import skips_proof
from luthier.recipes.before.recorded import recorded_rendering
from luthier.recipes.before.tokens import open_tokenizer
from luthier.recipes.run.devices import DTYPES, facts_of, torch_device
from luthier.recipes.run.result import write_text_side
from luthier.recipes.run.trainee import quantisation_of
from luthier.recipes.written.ends import (
    GENERATION,
    Ends,
    base_generation,
    known_ends,
    terminator,
    write_ends,
)
from luthier.recipes.written.model_card import Kind, card
from luthier.recipes.written.proof import MEASURED, Case, Proof, prove
from luthier.runs import RunDirectory
from luthier.sources.adapter_config import CONFIG, WEIGHTS, read_adapter_config
from luthier.sources.source import ModelSource, resolve_source
from luthier.sources.weights import MERGED, merged_adapters

WORST_SHARE = 0.2
"""A merged model further from base and adapter than this share of the adapter's effect is refused."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        merge_error: Root mean square difference of the logits of the merged model from those of
            base and adapter, as a share of the adapter's own; None where nothing was merged.
        measured_on: What it was measured on.
        notices: What the person should know about the files.
    """

    path: Path
    kind: Kind
    bytes: int
    base: str
    torch_dtype: str | None = None
    merge_error: float | None = None
    adapter_effect: float | None = None
    measured_on: str | None = None
    notices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def export_adapter(name: str, output: Path) -> Exported:
    """The adapter of a run with tokenizer, template and card; opens in PEFT.

    Raises:
        AdapterError: There is no adapter.
        RunExistsError: `output` exists.
    """
    source = resolve_source(name)
    adapter = adapter_of(name, source)
    config = read_adapter_config(adapter) | {"base_model_name_or_path": source.base_for_others}
    size = (adapter / WEIGHTS).stat().st_size
    with DurableFolder(output, kind="adapter", needed_bytes=size + 2**24) as new:
        shutil.copyfile(adapter / WEIGHTS, new.path / WEIGHTS)
        new.write(CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
        notices = _write_beside(new, source, "adapter", known_rows(source))
    return Exported(output, "adapter", size, source.base_for_others, notices=notices)


def export_merged(name: str, output: Path, *, torch_dtype: str = "auto") -> Exported:
    """One model without an adapter, with tokenizer, template, generation config and card.

    A quantised base is dequantised first: the adapter was trained on those values.

    Args:
        torch_dtype: Of the saved weights; `auto` is that of the training.

    Raises:
        AdapterError: The rounding would cost more than `WORST_SHARE` of the adapter's effect.
        RunExistsError: `output` exists.
    """
    source = resolve_source(name)
    if source.adapter is None:
        return _whole(name, source, output)
    open_tokenizer(source)  # refused before the weights are loaded
    how = training_of(source)
    device = torch_device()
    own = source.config.get("dtype") or source.config.get("torch_dtype") or "auto"
    trained = own if how is None else how.torch_dtype
    wanted = trained if torch_dtype == "auto" else torch_dtype
    dtype_name, _ = choose_dtype(wanted, facts_of(device))
    model: Any = load_base(
        source.base,
        dtype=DTYPES[dtype_name],
        quantisation=quantisation_of(how),
        device=device,
    )
    adapters = load_adapter(model, source.adapter, dropout=0.0)
    rows = known_rows(source)
    tokens = [torch.from_numpy(ids).long()[None].to(device) for ids in rows.ids]
    tuned = [_logits(model, ids) for ids in tokens]
    with adapters.disabled():
        effect = _distance(model, tokens, tuned)
    adapters.merge()
    error = _distance(model, tokens, tuned)
    share = error / effect if effect else 0.0
    _judge(name, share, effect, dtype_name, output)
    size = sum(weight.nbytes for weight in model.parameters())
    notes = {
        "precision": dtype_name,
        "merged against base and adapter": f"{share:.2g} of the adapter's effect, on {rows.said}",
    }
    record = {MERGED: [*merged_adapters(source.base), hash_file(source.adapter / WEIGHTS)]}
    with DurableFolder(output, kind="model", record=record, needed_bytes=size + 2**24) as new:
        save_model(model, new.path, config=source.config)
        notices = _write_beside(new, source, "merged", rows, notes=notes, model=model)
    return Exported(
        output,
        "merged",
        size,
        source.base_for_others,
        dtype_name,
        share,
        effect,
        rows.said,
        notices,
    )


def _judge(name: str, share: float, effect: float, dtype: str, output: Path) -> None:
    if share != share:
        raise NonFiniteError(
            f"logits of {name} are not numbers",
            why="base, adapter or their sum holds values that are not finite",
            fix=f"luthier export {name} --to merged --torch-dtype float32 --output {output}",
        )
    if share > WORST_SHARE:
        raise AdapterError(
            f"merged in {dtype}, {name} differs from its adapter by {share:.2g} of what the adapter does",
            why=f"at most {WORST_SHARE:g} is accepted: the adapter changes logits by {effect:.2g}, "
            f"which is lost in the rounding of {dtype}",
            fix=f"luthier export {name} --to merged --torch-dtype float32 --output {output}; "
            "or --to adapter, which loses nothing",
        )


def _whole(name: str, source: ModelSource, output: Path) -> Exported:
    """A run that trained every weight: its result as it is."""
    if source.run is None:
        raise AdapterError(
            f"{name} has no adapter to merge",
            why="it is a whole model already, in safetensors",
            fix=f"cp -r '{source.base}' '{output}'",
        )
    found = [path for path in sorted(source.base.iterdir()) if path.name != "manifest.json"]
    size = sum(path.stat().st_size for path in found)
    with DurableFolder(output, kind="model", needed_bytes=size) as new:
        for path in found:
            shutil.copyfile(path, new.path / path.name)
        notices, ends = _settle_ends(new.path, source)
        proof = _proven(new.path, "model", source, known_rows(source), ends, None)
        notices += tuple(proof.lines)
    how = training_of(source)
    base = name if how is None else how.model
    return Exported(output, "model", size, base, notices=notices)


def adapter_of(name: str, source: ModelSource) -> Path:
    """The folder of its adapter.

    Raises:
        AdapterError: There is none.
    """
    if source.adapter is None:
        raise AdapterError(
            f"{name} has no adapter",
            why="it was trained whole, or is a base model",
            fix=f"luthier export {name} --to merged --output FOLDER",
        )
    return source.adapter


def _write_beside(
    new: DurableFolder,
    source: ModelSource,
    kind: Kind,
    rows: KnownRows,
    *,
    notes: dict[str, str] | None = None,
    model: Any = None,
) -> tuple[str, ...]:
    """Tokenizer, template, rendering, the ends that were learned, and card; what to say of them.

    Args:
        model: In memory, as it was written, if it is.
    """
    tokenizer = open_tokenizer(source)
    write_text_side(new.path, tokenizer, _rendering(source))
    notices, ends = _settle_ends(new.path, source)
    proof = _proven(new.path, kind, source, rows, ends, model)
    settings, data, history = None, None, None
    if source.run is not None:
        run = RunDirectory.open(source.run)
        settings = load_saved(run.settings_file).settings
        data = decode(run.data_file.read_text("utf-8")) if run.data_file.is_file() else None
        ended = [one for one in read_events(run.events_file) if isinstance(one, Finished)]
        summary = (ended[-1].summary if ended else None) or {}
        history = {key: summary[key] for key in ("before", "best", "last") if summary.get(key)}
    text = card(
        kind=kind,
        base=source.name,
        version=version("luthier"),
        settings=settings,
        data=data,
        history=history,
        notes=notes,
        proof=proof.lines,
    )
    new.write("README.md", text)
    return (*notices, *proof.lines)


def _proven(
    folder: Path, kind: Kind, source: ModelSource, rows: KnownRows, ends: Ends, model: Any
) -> Proof:
    """What transformers reads of the folder; nothing where that is left out."""
    if skips_proof():
        return Proof()
    weights = source.base if kind == "adapter" else folder
    own = source.config.get("dtype") or source.config.get("torch_dtype") or "auto"
    how = training_of(source)
    dtype = str(model.dtype) if model is not None else own if how is None else how.torch_dtype
    return prove(
        Case(
            folder=folder,
            kind=kind,
            base=source.base,
            rows=rows.checked,
            examples=[example.sequences[0] for example in rows.examples[:MEASURED]],
            model=model,
            tokenizer=open_tokenizer(source),
            ends=ends.learned,
            dtype=dtype.removeprefix("torch."),
            num_bytes=sum(path.stat().st_size for path in weights.glob("*.safetensors")),
            incomparable="the files are copies" if model is None else "",
        )
    )


def _settle_ends(folder: Path, source: ModelSource) -> tuple[tuple[str, ...], Ends]:
    """The ends that the result names, or for one that names none its template's, into `folder`.

    Returns:
        What to say of them, and the ends.
    """
    opened = open_rendering(source).renderer
    base = base_generation(source.base, source.config)
    result = (source.adapter or source.base) / GENERATION
    learned = known_ends(base_generation(result.parent, {})) if result.is_file() else []
    inside = frozenset(set(known_ends(base)).difference(learned) if learned else ())
    learned = [*terminator(opened.tokenizer, opened.facts), *learned]
    ends = Ends(tuple(dict.fromkeys(learned)), inside)
    said = write_ends(
        folder,
        ends,
        generation=base,
        tokenizer=opened.tokenizer,
        template=opened.template,
    )
    return (said,) if said else (), ends


def _rendering(source: ModelSource) -> dict[str, object]:
    """How the training rendered; for an adapter from elsewhere, the family's template."""
    if how := recorded_rendering(source):
        return how
    tokenizer = open_tokenizer(source)
    return {"chat_template": tokenizer.chat_template or source.family.chat_template}


@torch.no_grad()
def _logits(model: Any, ids: Tensor) -> Tensor:
    """Of every position, float32, on the CPU, (positions, vocabulary)."""
    with generation_mode(model):
        logits: Tensor = model(ids).logits[0].float().cpu()
    return logits


def _distance(model: object, tokens: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Root mean square difference between the model's logits and others."""
    squares, count = 0.0, 0
    for ids, other in zip(tokens, others, strict=True):
        difference = (_logits(model, ids) - other).double()
        squares, count = squares + float(difference.square().sum()), count + difference.numel()
    return math.sqrt(squares / count)
