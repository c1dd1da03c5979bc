"""How many tokens a data set has for a model: counted if its tokenizer is at hand, else estimated."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.config.settings import Settings
from luthier.data.load import Loaded
from luthier.data.tokens.token_rates import PER_MESSAGE, Rates, rates_for
from luthier.data.types import (
    BadRow,
    Conversation,
    Example,
    Feedback,
    Message,
    Preference,
    Sample,
    Text,
)
from luthier.errors import DataError, ModelNotFoundError
from luthier.gallery import find_model, nearest_names
from luthier.recipes.before.opening import load_rows, open_run
from luthier.sources.source import ModelSource, resolve_local

PERCENTILES = (50, 90, 95, 99)
LENGTHS = (512, 1024, 2048, 4096)
Counts = NDArray[np.float64]


def estimate(settings: Settings) -> dict[str, object]:
    """Tokens of the rows of `dataset` for `model`; no weight is looked at, nothing is fetched.

    Returns:
        `tokenizer` (whose tokens they are), `exact`, and if not exact `mean_error` and
        `worst_error` as shares, as they were found on files the estimate had not seen; `rows`,
        `bad`; `tokens` and `learned` in all; `percentiles` of the longest sequence of a row; `over`,
        the rows longer than each of four lengths.

    Raises:
        ModelNotFoundError: Neither a folder nor the gallery has that name.
        LuthierError: A file cannot be read.
    """
    source = resolve_local(settings.model)
    loaded = load_rows(settings)
    if source is not None:
        about, totals, longest, learned = _counted(settings, source, loaded)
    else:
        about, totals, longest, learned = _estimated(settings, loaded.samples)
    shares = np.percentile(longest, PERCENTILES) if len(longest) else np.zeros(len(PERCENTILES))
    return {
        "model": settings.model,
        **about,
        "rows": len(longest),
        "bad": len(loaded.bad) + len(loaded.samples) - len(longest),
        "tokens": round(float(totals.sum())),
        "learned": round(float(learned.sum())),
        "longest": round(float(longest.max(initial=0))),
        "percentiles": {str(p): round(float(x)) for p, x in zip(PERCENTILES, shares, strict=True)},
        "over": {str(limit): int((longest > limit).sum()) for limit in LENGTHS},
    }


def guess_lengths(
    settings: Settings, samples: list[Sample]
) -> tuple[Counts, Counts, Counts, dict[str, object]]:
    """Tokens of each sample without the model's tokenizer: in all, longest sequence, learned ones.

    Returns:
        The three, and `tokenizer`, `mean_error` and `worst_error` as of `estimate`.

    Raises:
        ModelNotFoundError: The gallery does not know the model's vocabulary.
    """
    about, totals, longest, learned = _estimated(settings, samples)
    return totals, longest, learned, about


def _counted(
    settings: Settings, source: ModelSource, loaded: Loaded
) -> tuple[dict[str, Any], Counts, Counts, Counts]:
    renderer = open_run(settings, source, whole=True, rows=loaded).renderer
    made = renderer.render_each(loaded.samples)
    found = np.array([row for rendered in made if (row := _row(rendered))])
    totals, longest, learned = found.reshape(-1, 3).T
    return {"tokenizer": source.name, "exact": True}, totals, longest, learned


def _row(rendered: Example | BadRow | DataError) -> tuple[int, int, int] | None:
    if isinstance(rendered, DataError):
        raise rendered
    if isinstance(rendered, BadRow):
        return None
    lengths = [len(sequence.ids) for sequence in rendered.sequences]
    learned = sum(int((sequence.weights > 0).sum()) for sequence in rendered.sequences)
    return sum(lengths), max(lengths), learned


def _estimated(
    settings: Settings, samples: list[Sample]
) -> tuple[dict[str, object], Counts, Counts, Counts]:
    model = find_model(settings.model)
    size = model.architecture.get("vocab_size") if model is not None else None
    if not isinstance(size, int):
        near = nearest_names(settings.model)
        raise ModelNotFoundError(
            f"{settings.model!r} is neither at hand nor in the gallery with its vocabulary",
            why="tokens are counted by the model's tokenizer, or estimated from its size",
            fix=f"--model {near[0] if near else 'starter'}",
        )
    rates = rates_for(size)
    found = np.array([_guess(rates, sample) for sample in samples]).reshape(-1, 3)
    totals, longest, learned = found.T
    about = {
        "tokenizer": f"an estimate for {'that of' if rates.same else 'the nearest,'} {rates.name}",
        "exact": False,
        "same_tokenizer": rates.same,
        "mean_error": rates.mean_error,
        "worst_error": rates.worst_error,
    }
    return about, totals, longest, learned


def _guess(rates: Rates, sample: Sample) -> tuple[float, float, float]:
    def messages(turns: tuple[Message, ...]) -> float:
        return sum(_message(rates, turn) for turn in turns)

    if isinstance(sample, Text):
        count = rates.tokens(sample.text)
        return count, count, count
    if isinstance(sample, Preference):
        prompt, sides = (
            messages(sample.prompt),
            [messages(sample.chosen), messages(sample.rejected)],
        )
        return 2 * prompt + sum(sides), prompt + max(sides), sum(sides)
    conversation: Conversation = sample.conversation if isinstance(sample, Feedback) else sample
    tools = rates.tokens(json.dumps(list(conversation.tools))) if conversation.tools else 0.0
    total = messages(conversation.messages) + tools
    answers = messages(tuple(one for one in conversation.messages if one.role == "assistant"))
    return total, total, answers


def _message(rates: Rates, message: Message) -> float:
    calls = "".join(json.dumps([call.name, dict(call.arguments)]) for call in message.tool_calls)
    text = (message.reasoning or "") + message.content + calls
    return rates.tokens(text) + PER_MESSAGE
