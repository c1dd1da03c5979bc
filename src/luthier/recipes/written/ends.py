"""The ends of an answer that were learned, written where other programs look for them.

Chat in luthier stops at the template's terminator by itself.  transformers, vLLM and llama.cpp stop
at `generation_config.json` and the tokenizer's `eos_token`, which in a base model's folder often name
another token, so that a tuned model would talk on for ever.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from luthier.bounded import read_object
from luthier.data.rendering.probe import TemplateFacts
from luthier.data.rendering.template import TemplateText
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Example
from luthier.errors import ModelError

GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Ends:
    """Where answers end.

    Args:
        learned: Ids that learned answers end with, the most frequent first.
        inside: Ids of `known` ends that stand within learned answers: stopping there would cut them.
    """

    learned: tuple[int, ...] = ()
    inside: frozenset[int] = frozenset()


def learned_ends(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    facts: TemplateFacts | None,
    known: Sequence[int] = (),
) -> Ends:
    """What the rows teach a model to end with: control tokens at the end of learned spans.

    Args:
        facts: Of the template, whose terminator counts as learned whatever the rows show; None:
            plain text.
        known: Ends that the base's files name.
    """
    enders = {n for text, n in tokenizer.special_tokens.items() if tokenizer.ends_turn(text)}
    is_end = np.zeros(max(tokenizer.vocab_size, *known, 0) + 1, bool)
    is_end[[*enders, *tokenizer.stop_ids, *known]] = True
    at_end: Counter[int] = Counter()
    inside: set[int] = set()
    for example in examples:
        for sequence in example.sequences:
            learned = sequence.weights > 0
            last = learned & ~np.append(learned[1:], False)
            found = is_end[sequence.ids] & learned
            at_end.update(sequence.ids[found & last].tolist())
            inside.update(sequence.ids[found & ~last].tolist())
    ends = [number for number, _ in at_end.most_common() if number not in inside]
    ends += terminator(tokenizer, facts)
    return Ends(tuple(dict.fromkeys(ends)), frozenset(inside.difference(ends)))


def terminator(tokenizer: Tokenizer, facts: TemplateFacts | None) -> list[int]:
    """The control token that a template ends answers with; empty where it writes none."""
    text = None if facts is None else facts.terminator
    return [] if text is None else [tokenizer.special_tokens[text]]


def _bad_generation(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} cannot be read", why=why, fix="fetch the model again")


def base_generation(folder: Path, config: Mapping[str, object]) -> dict[str, object]:
    """`generation_config.json` of a base, or what stands in its place in the config."""
    path = folder / GENERATION
    if path.is_file():
        fields = read_object(path, partial(_bad_generation, path), same_twice=True)
        return fields
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: config[name] for name in names if config.get(name) is not None}


def known_ends(generation: Mapping[str, object]) -> list[int]:
    """The ids of `eos_token_id`, which is one or several."""
    value = generation.get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    return [item for item in values if type(item) is int and item >= 0]


def write_ends(
    folder: Path,
    ends: Ends,
    *,
    generation: Mapping[str, object],
    tokenizer: Tokenizer,
    template: TemplateText | None,
) -> str | None:
    """Name every end in `generation_config.json`, and a learned one as `eos_token` of the tokenizer.

    The tokenizer's stays where it is a learned one already, and where the template writes
    `eos_token`: another would change what it renders.

    Args:
        folder: Holds the tokenizer; its own `generation_config.json` goes before `generation`.
        generation: The base's, where the folder has none.

    Returns:
        One line that says what differs from the base's files, or None.
    """
    path = folder / GENERATION
    fields = dict(generation)
    if path.is_file():
        fields = read_object(path, partial(_bad_generation, path), same_twice=True)
    before = known_ends(fields)
    kept = [number for number in before if number not in ends.inside]
    every = list(dict.fromkeys([*ends.learned, *kept]))
    if every:
        fields["eos_token_id"] = every[0] if len(every) == 1 else every
    if every or path.is_file():
        path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", "utf-8")
    said = []
    if set(every) != set(before):
        named = ", ".join(_name(tokenizer, number) for number in before) or "none"
        all_named = ", ".join(_name(tokenizer, number) for number in every)
        said.append(f"{GENERATION} ends at {all_named} (the base's: {named})")
    if _wants_eos(ends, tokenizer):
        text = tokenizer.token(ends.learned[0])
        if template is not None and "eos_token" in template.source:
            said.append(f"eos_token stays {tokenizer.eos!r}: the template writes it")
        else:
            tokenizer.save(folder, eos=text)
            said.append(f"eos_token of the tokenizer is {text}, not {tokenizer.eos or 'none'}")
    return "answers end as they were learned: " + "; ".join(said) if said else None


def _wants_eos(ends: Ends, tokenizer: Tokenizer) -> bool:
    return bool(ends.learned) and tokenizer.eos_id not in ends.learned


def _name(tokenizer: Tokenizer, number: int) -> str:
    return tokenizer.token(number) or str(number)
