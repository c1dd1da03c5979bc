"""Write the result of a run for Ollama: one merged GGUF file and the Modelfile that makes it answer and stop."""

from collections.abc import Sequence
from pathlib import Path

from luthier.data.types import Conversation, Message, Origin
from luthier.errors import TemplateError
from luthier.exchange.gguf_shapes import context_of
from luthier.exchange.modelfile import compare, measure, modelfile
from luthier.recipes.after.export import Exported
from luthier.recipes.after.export_gguf import export_gguf
from luthier.recipes.after.rendering import open_rendering
from luthier.recipes.written.ends import base_generation, known_ends
from luthier.sources.source import ModelSource, resolve_source

_SAMPLING = {
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "repetition_penalty": "repeat_penalty",
}  # fmt: skip


def export_ollama(name: str, output: Path, *, quant: str = "auto") -> Exported:
    """A folder for `ollama create`: a GGUF file and a Modelfile.

    Args:
        quant: As for `export_gguf`.

    Raises:
        TemplateError: The chat template has no form in Ollama that is known here.
        LuthierError: As for a GGUF file.
    """
    source = resolve_source(name)
    text = modelfile_of(
        source, "{file}"
    )  # what cannot be said is refused before anything is merged
    found = export_gguf(
        name,
        output,
        quant=quant,
        beside=lambda file: {"Modelfile": text.replace("{file}", file, 1)},
    )
    said = "dialogues through the Modelfile's template had the ids of the training's prompts, one by one"
    return Exported(
        found.path, "ollama", found.bytes, found.base, found.torch_dtype, found.merge_error,
        found.adapter_effect, found.measured_on, (*found.notices, said),
    )  # fmt: skip


def modelfile_of(source: ModelSource, file: str) -> str:
    """The Modelfile of a result, whose template gives the ids of its prompts.

    Raises:
        TemplateError: There is no template, or it has no form in Ollama.
    """
    opened = open_rendering(source)
    renderer, tokenizer = opened.renderer, opened.tokenizer
    if renderer.template is None:
        raise TemplateError(
            f"{source.name} has no chat template",
            why="without one Ollama gives the model the bare text of a question",
            fix="--to gguf, for tools that complete a text",
        )

    def say(messages: Sequence[Message]) -> str:
        row = Conversation(tuple(messages), Origin("", 1))
        return "".join(piece.text for piece in renderer.explain(row)[-1])

    def ids_of(text: str) -> list[int]:
        first = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
        return first + [int(one) for one in tokenizer.encode(text, parse_special=True)]

    bos = tokenizer.roles.get("bos_token", "") if tokenizer.adds_bos else ""
    around = compare(
        measure(say, bos=bos),
        ids_of,
        lambda messages: [int(one) for one in renderer.prompt(messages)],
    )
    generation = base_generation(source.adapter or source.base, source.config)
    ends = dict.fromkeys(known_ends(generation))
    names = {number: token for token, number in tokenizer.special_tokens.items()}
    stops = [names[number] for number in [*ends, *renderer.stop_ids] if number in names]
    sampling = {
        theirs: float(value)
        for ours, theirs in _SAMPLING.items()
        if isinstance(value := generation.get(ours), int | float)
    }
    return modelfile(
        file, around, stops=list(dict.fromkeys(stops)), context=context_of(source.config),
        parameters=sampling,
    )  # fmt: skip
