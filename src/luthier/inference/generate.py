"""Continue a prompt token by token, with the model's own attention and a cache of keys and values.

B: prompts that go through the model together, all equally long.  T: tokens.  V: vocabulary.

The trap: nothing here pads.  A padded batch needs masks and position ids that every architecture
reads a little differently; prompts of equal length need neither.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from luthier.errors import SettingsError, TooLongError
from luthier.gallery import context_length
from luthier.models.build import generation_mode

CHUNK_T = 1024
"""Prompt tokens computed at once: bounds the memory of a long prompt."""

Finish = Literal["stop", "length", "context"]
Adjust = Callable[[Tensor], Tensor]
"""The logits (V,) of the next token, changed before one is chosen."""

Observe = Callable[[Tensor, int], None]
"""Told the logits (V,) a token was chosen from, and the token; the stop token is among them."""


class PrefixCache:
    """Keys and values of what was computed last, so that the next turn computes only what is new.

    Belongs to one model in one state: a dialogue with the adapter and one without need two.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        # State-space layers cannot take a token back; the others are kept whole, windows included.
        self.trims = not _has_recurrent_layers(model.config)
        self._border = rope_border(model.config)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        config = None if self.trims else self._model.config
        self.rows: list[list[int]] = [[]]
        self._beyond = False  # computed as part of a text longer than the border
        self.state = DynamicCache(config=config)

    @property
    def ids(self) -> list[int]:
        """The tokens whose keys and values are here; of several rows those of the first."""
        return self.rows[0]

    def outdated(self, num_new: int) -> bool:
        """Whether what is here was computed with other rotary positions than `num_new` more need.

        Where a model turns its positions by one rule up to a length and by another beyond it, keys
        of one side are wrong on the other.
        """
        if self._border is None or not self.ids:
            return False
        return self._beyond != (len(self.ids) + num_new > self._border)

    def add(self, rows: Sequence[Sequence[int]]) -> None:
        """Take note of tokens that were computed behind those that are here."""
        if not self.ids:
            self.rows = [[] for _ in rows]
        for held, new in zip(self.rows, rows, strict=True):
            held.extend(new)
        self._beyond = self._border is not None and len(self.ids) > self._border

    def chunks(self, num_new: int) -> list[int]:
        """Lengths in which `num_new` tokens are computed; the first reaches over the border."""
        first = CHUNK_T
        if self._border is not None and len(self.ids) + num_new > self._border:
            first = max(CHUNK_T, self._border + 1 - len(self.ids))
        if num_new <= first:
            return [num_new]
        rest = num_new - first
        return [first, *[CHUNK_T] * (rest // CHUNK_T), *[rest % CHUNK_T][: rest % CHUNK_T]]

    def reuse(self, prompt_ids: Sequence[int]) -> int:
        """Keep what agrees with a prompt; returns how many of its tokens need no computing.

        At least the last token of the prompt is computed: its output begins the answer.
        """
        agreed = 0
        for kept, asked in zip(self.ids, prompt_ids[:-1], strict=False):
            if kept != asked:
                break
            agreed += 1
        if agreed < len(self.ids):
            if self.trims and agreed:
                self.state.crop(agreed - len(self.ids))
                del self.ids[agreed:]
            else:
                self.clear()
        if self.outdated(len(prompt_ids) - len(self.ids)):
            self.clear()
        return len(self.ids)


class Generation(Iterator[int]):
    """The tokens of one answer, computed as they are asked for; the stop token is not among them.

    Attributes:
        finish: Why it ended: a stop token, `max_new_tokens`, or the context is full; None before.
        num_reused: Tokens of the prompt that were in the prefix cache.
    """

    def __init__(self, tokens: Iterator[int]) -> None:
        self.finish: Finish | None = None
        self.num_reused = 0
        self._tokens = tokens

    def __next__(self) -> int:
        return next(self._tokens)


def generate(
    model: nn.Module,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: Collection[int] = (),
    prefix_cache: PrefixCache | None = None,
    adjust: Adjust | None = None,
    observe: Observe | None = None,
) -> Generation:
    """Continue a prompt.

    Args:
        model: A transformers language model.
        prompt_ids: At least one token.
        max_new_tokens: Most tokens of the answer, > 0; the context length of the model wins.
        temperature: 0 takes the likeliest token; larger is more varied.
        top_p: Sample among the likeliest tokens that together have this probability, 0 < top_p <= 1.
        seed: Of the sampling; the answer is a function of model, prompt and these arguments.
        stop_ids: Tokens that end the answer.
        prefix_cache: What the last call computed; changed in place.
        adjust: Penalties and biases; they hold for greedy choice too.
        observe: Sees every choice, for log-probabilities.

    Raises:
        SettingsError: An argument is out of its range.
        TooLongError: The prompt fills the context of the model.
    """
    _check_ranges(max_new_tokens, temperature, top_p)
    limit = _room(model, prompt_ids, max_new_tokens)
    cache = prefix_cache if prefix_cache is not None else PrefixCache(model)
    choose = _Choice(temperature, top_p, seed)

    def tokens() -> Iterator[int]:
        result.num_reused = cache.reuse(prompt_ids)
        fresh = list(prompt_ids[result.num_reused :])
        for _ in range(limit):
            # Not held between tokens: whoever reads them may do something else with the model.
            with generation_mode(model), torch.no_grad():
                logits_BV = _extend(model, cache, [fresh])
            logits_V = logits_BV[0] if adjust is None else adjust(logits_BV[0])
            token = choose(logits_V)
            if observe is not None:
                observe(logits_V, token)
            if token in stop_ids:
                result.finish = "stop"
                return
            yield token
            fresh = [token]
        result.finish = "length" if limit == max_new_tokens else "context"

    result = Generation(tokens())
    return result


def batch_generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    max_batch: int = 32,
) -> list[list[int]]:
    """Greedy answers to many prompts, in their order; those of equal length are computed together.

    Raises:
        SettingsError: An argument is out of its range.
        TooLongError: A prompt fills the context of the model.
    """
    _check_ranges(max_new_tokens, 0.0, 1.0)
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(index)
    answers: list[list[int]] = [[] for _ in prompts]
    for members in by_length.values():
        for start in range(0, len(members), max_batch):
            group = members[start : start + max_batch]
            limit = _room(model, prompts[group[0]], max_new_tokens)
            with generation_mode(model), torch.no_grad():
                found = _greedy(model, [prompts[index] for index in group], limit, stop_ids)
            for index, answer in zip(group, found, strict=True):
                answers[index] = answer
    return answers


def _greedy(
    model: nn.Module, prompts: Sequence[Sequence[int]], limit: int, stop_ids: Collection[int]
) -> list[list[int]]:
    cache = PrefixCache(model)
    answers: list[list[int]] = [[] for _ in prompts]
    open_rows = set(range(len(prompts)))
    fresh = [list(prompt) for prompt in prompts]
    for _ in range(limit):
        tokens = _extend(model, cache, fresh).argmax(-1).tolist()
        for row, token in enumerate(tokens):
            if row in open_rows and token in stop_ids:
                open_rows.remove(row)
            elif row in open_rows:
                answers[row].append(token)
        if not open_rows:
            break
        fresh = [[token] for token in tokens]  # a closed row goes on unread
    return answers


def _extend(model: nn.Module, cache: PrefixCache, fresh: Sequence[list[int]]) -> Tensor:
    """Logits (B, V) behind the last of new tokens, which are in the cache afterwards."""
    device = model.get_input_embeddings().weight.device  # type: ignore[operator]
    if cache.outdated(len(fresh[0])):
        fresh = [[*old, *new] for old, new in zip(cache.rows, fresh, strict=True)]
        cache.clear()
    ids_BT = torch.tensor(fresh, dtype=torch.int64, device=device)
    keep: dict[str, object] = {"logits_to_keep": 1} if _keeps_last(type(model)) else {}
    try:
        for chunk_BT in ids_BT.split(cache.chunks(len(fresh[0])), dim=1):
            output = model(input_ids=chunk_BT, past_key_values=cache.state, use_cache=True, **keep)
    except BaseException:  # Ctrl-C too: layers may be of different lengths now
        cache.clear()
        raise
    cache.add(fresh)
    logits: Tensor = output.logits[:, -1]
    return logits


_KEEPS_LAST: dict[type, bool] = {}


def _keeps_last(kind: type[nn.Module]) -> bool:
    if kind not in _KEEPS_LAST:
        _KEEPS_LAST[kind] = "logits_to_keep" in inspect.signature(kind.forward).parameters
    return _KEEPS_LAST[kind]


class _Choice:
    """Logits to a token; sampling is on the CPU, so that a seed means the same on every device."""

    def __init__(self, temperature: float, top_p: float, seed: int) -> None:
        self._temperature, self._top_p = temperature, top_p
        self._draw = torch.Generator().manual_seed(seed)

    def __call__(self, logits_V: Tensor) -> int:
        if self._temperature == 0:
            return int(logits_V.argmax())
        scaled_V = logits_V.cpu().double() / self._temperature
        probs_V, order_V = scaled_V.softmax(-1).sort(descending=True, stable=True)
        # A token stays if those before it have not yet reached top_p: the first always does.
        probs_V = probs_V.where(probs_V.cumsum(-1) - probs_V < self._top_p, 0.0)
        drawn = torch.multinomial(probs_V, 1, generator=self._draw)
        return int(order_V[drawn])


def rope_border(config: Any) -> int | None:
    """Tokens beyond which a model turns all its rotary positions by another rule (longrope)."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    borders = [
        int(kind.get("original_max_position_embeddings") or text.max_position_embeddings)
        for kind in kinds
        if kind.get("rope_type") == "longrope"
    ]
    return min(borders, default=None)


def context_of(model: nn.Module) -> int | None:
    """Most tokens the model can hold, by its config; None where the config names no limit."""
    config: Any = model.config
    return context_length(config.to_dict())


def _room(model: nn.Module, prompt_ids: Sequence[int], max_new_tokens: int) -> int:
    """How many tokens the answer may have."""
    if not len(prompt_ids):
        raise SettingsError(
            "the prompt is empty", why="a model continues text, so it needs at least one token"
        )
    context = context_of(model)
    if context is None:
        return max_new_tokens
    if len(prompt_ids) >= context:
        raise TooLongError(
            f"the prompt has {len(prompt_ids):,} tokens",
            why=f"the model holds {context:,}, the answer included",
            fix="shorten the prompt, or start a new conversation: /reset",
        )
    return min(max_new_tokens, context - len(prompt_ids))


def _check_ranges(max_new_tokens: int, temperature: float, top_p: float) -> None:
    wrong = {
        f"max_new_tokens={max_new_tokens} (at least 1)": max_new_tokens < 1,
        f"temperature={temperature} (0 or more)": not 0 <= temperature < float("inf"),
        f"top_p={top_p} (above 0, at most 1)": not 0 < top_p <= 1,
    }
    if found := [text for text, is_wrong in wrong.items() if is_wrong]:
        raise SettingsError(
            f"out of range: {', '.join(found)}",
            why="an answer has a length, a temperature and a share of probability to draw from",
            fix="--max-new-tokens 256 --temperature 0.7 --top-p 0.95",
        )


def _has_recurrent_layers(config: Any) -> bool:
    kinds = getattr(config.get_text_config(), "layer_types", None) or ()
    return any("attention" not in kind or "linear" in kind for kind in kinds)
