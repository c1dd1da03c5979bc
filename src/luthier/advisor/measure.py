"""Rows, model and machine to the plain numbers that advice is made from."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from luthier.advisor.facts import LEANEST, USABLE, Kind, Machine, Method, Model, Rows
from luthier.data.prepare import chosen_longer
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Conversation, Example, Feedback, Preference, Sample, Text
from luthier.planner.device import Device
from luthier.planner.marks import fit_marks
from luthier.planner.memory import How, adapter_params
from luthier.planner.shape import Shape

LETTERS = 20_000
"""Letters that are looked at for scripts and for tokens a letter."""

STEP = 256
"""Tokens between two lengths that are tried."""

_CODE = re.compile(
    r"```|\bdef \w+\(|\bfunction\s+\w*\(|#include\s*<|\bSELECT\b.+\bFROM\b|\bpublic static\b"
)


def kind_of(samples: Iterable[Sample]) -> Kind:
    """What most rows are; texts that hold whole chats count as conversations."""
    counts = Counter(_kind(sample) for sample in samples)
    return counts.most_common(1)[0][0]


def _kind(sample: Sample) -> Kind:
    if isinstance(sample, Preference):
        return "pairs"
    if isinstance(sample, Feedback):
        return "feedback"
    if isinstance(sample, Text) and sample.form == "plain":
        return "texts"
    return "conversations"


def measure_rows(
    samples: Sequence[Sample], examples: Sequence[Example], tokenizer: Tokenizer, *, total: int
) -> Rows:
    """Numbers of the rows, scaled to `total` where only some of them were rendered.

    Args:
        samples: What was read.
        examples: The same rendered without a limit, those that can be used.
        total: Rows that can be used in all.
    """
    kind = kind_of(samples)
    scale = total / max(1, len(examples))
    lengths = [max(len(s.ids) for s in example.sequences) for example in examples]
    learned = [sum(int((s.weights > 0).sum()) for s in e.sequences) for e in examples]
    scripts, per_letter = _scripts(samples, tokenizer)
    return Rows(
        kind=kind,
        count=total,
        tokens=round(scale * sum(len(s.ids) for e in examples for s in e.sequences)),
        learned_tokens=round(scale * sum(learned)),
        lengths=tuple(int(x) for x in np.percentile(lengths, range(101), method="higher")),
        answer_tokens=int(np.median(learned)) // (2 if kind == "pairs" else 1),
        turns=int(np.median([_turns(sample) for sample in samples])),
        tool_share=_share(samples, _has_tools),
        code_share=_share(samples, lambda sample: _CODE.search(_text(sample)) is not None),
        scripts=scripts,
        tokens_per_letter=per_letter,
        chosen_longer=chosen_longer(examples) if kind == "pairs" else 0.5,
    )


def _share(samples: Sequence[Sample], holds: Callable[[Sample], bool]) -> float:
    return sum(map(holds, samples)) / max(1, len(samples))


def _has_tools(sample: Sample) -> bool:
    if isinstance(sample, Conversation):
        return bool(sample.tools) or any(message.tool_calls for message in sample.messages)
    return isinstance(sample, Preference) and bool(sample.tools)


def _turns(sample: Sample) -> int:
    messages = sample.messages if isinstance(sample, Conversation) else ()
    return max(1, sum(message.role == "assistant" for message in messages))


def _text(sample: Sample) -> str:
    if isinstance(sample, Text):
        return sample.text
    if isinstance(sample, Conversation):
        return "\n".join(message.content for message in sample.messages)
    if isinstance(sample, Preference):
        return "\n".join(m.content for m in (*sample.prompt, *sample.chosen, *sample.rejected))
    return _text(sample.conversation)


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "OTHER").split()[0].lower()
    return "han" if name == "cjk" else name


def _scripts(samples: Sequence[Sample], tokenizer: Tokenizer) -> tuple[dict[str, float], float]:
    """Share of each script among the letters, and tokens for a letter outside the Latin one."""
    step = max(1, len(samples) // 200)
    text = "\n".join(_text(sample)[:500] for sample in samples[::step])
    letters = [letter for letter in text if letter.isalpha()][:LETTERS]
    if not letters:
        return {}, 0.0
    counts = Counter(map(_script, letters))
    shares = {name: count / len(letters) for name, count in counts.most_common(4)}
    runs = re.findall(r"[^\W\d_a-zA-Z\u00c0-\u024f\u1e00-\u1eff]+", text)[:2000]
    foreign = sum(map(len, runs))
    if foreign == 0:
        return shares, 0.0
    tokens = sum(len(tokenizer.encode(run)) for run in runs)
    return shares, tokens / foreign


def measure_model(
    name: str, config: Mapping[str, Any], *, tuned: bool, chat: bool, parameters: int | None = None
) -> Model:
    """Numbers of a model from its `config.json`."""
    shape = Shape.from_config(config)
    one = How(rank=1, targets=("all-linear",))
    return Model(
        name=name,
        parameters=parameters or shape.num_params,
        hidden=shape.hidden,
        context=shape.context or None,
        family=shape.model_type,
        adapter_per_rank=adapter_params(shape, one),
        experts=shape.num_experts > 0,
        tuned=tuned,
        chat=chat,
    )


def measure_machine(config: Mapping[str, object], device: Device, *, longest: int) -> Machine:
    """What each method needs on a device, and how long its sequences may be.

    Args:
        longest: Tokens of the longest row.
    """
    shape = Shape.from_config(config)
    marks = fit_marks(shape, device, seq_length=max(128, min(longest, 1024)))
    methods: tuple[Method, ...] = ("full", "lora", "qlora")
    rooms = {method: _room(shape, device, method, longest) for method in methods}
    return Machine(
        name=device.name,
        kind=device.kind,
        memory_bytes=device.memory_bytes,
        needs={method: marks[method].peak_bytes for method in methods},
        room={method: room for method, room in rooms.items() if room},
        devices=device.count,
    )


def _room(shape: Shape, device: Device, method: Method, longest: int) -> int:
    """The longest sequence that fits, in steps of 256 tokens; 0 where all do, or none."""

    def fits(length: int) -> bool:
        peak = fit_marks(shape, device, seq_length=length)[method].peak_bytes
        return peak <= (LEANEST if method == "qlora" else USABLE) * device.memory_bytes

    if fits(longest) or not fits(STEP):
        return 0
    low, high = 1, -(-longest // STEP)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * STEP) else (low, middle)
    return low * STEP
