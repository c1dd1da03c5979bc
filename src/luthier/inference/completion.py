"""Answers as a service gives them: stop texts, penalties, log-probabilities, several at once.

V: vocabulary.  Every event is plain data, ready for JSON:

    {"type": "delta", "index": 0, "text": " Rome", "logprobs": [...]}
    {"type": "end", "index": 0, "finish_reason": "stop"}
    {"type": "usage", "prompt_tokens": 12, "completion_tokens": 3, "tokens_per_s": 41.0}
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from luthier.errors import SettingsError
from luthier.inference.generate import Generation, PrefixCache, generate
from luthier.inference.stream import HALF, Decoder, TextStream
from luthier.process_messages import AnswerEvent, TokenLogprob

MAX_ANSWERS, MAX_STOPS, MAX_TOP = 8, 4, 20


class Coder(Decoder, Protocol):
    """The part of `luthier.data.tokens.tokenizer.Tokenizer` that is needed here."""

    @property
    def vocab_size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; names and ranges are those of OpenAI's chat completions.

    Args:
        seed: Answer k of `n` is drawn with `seed + k`.
        stop: Texts that end an answer; they are not part of it.
        top_logprobs: How many of the likeliest tokens come with each; None for no log-probabilities.
        logit_bias: Token id to a number added to its logit, -100 to 100.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    n: int = 1
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = {
            f"n={self.n} (1 to {MAX_ANSWERS})": not 1 <= self.n <= MAX_ANSWERS,
            f"{len(self.stop)} stop texts (at most {MAX_STOPS})": len(self.stop) > MAX_STOPS,
            "an empty stop text": "" in self.stop,
            f"presence_penalty={self.presence_penalty} (-2 to 2)": abs(self.presence_penalty) > 2,
            f"frequency_penalty={self.frequency_penalty} (-2 to 2)": abs(self.frequency_penalty)
            > 2,
            f"temperature={self.temperature} (0 to 2)": not 0 <= self.temperature <= 2,
            f"top_logprobs={self.top_logprobs} (0 to {MAX_TOP})": not 0
            <= (self.top_logprobs or 0)
            <= MAX_TOP,
            "a logit_bias beyond -100 to 100": any(abs(b) > 100 for b in self.logit_bias.values()),
        }
        if found := [text for text, is_wrong in wrong.items() if is_wrong]:
            raise SettingsError(
                f"out of range: {', '.join(found)}",
                why="these are the ranges of chat completions",
                fix="leave the parameter out for its default",
            )


def complete(
    model: nn.Module,
    tokenizer: Coder,
    prompt_ids: Sequence[int],
    wanted: Wanted,
    *,
    stop_ids: Collection[int],
    prefix_cache: PrefixCache | None = None,
) -> Iterator[AnswerEvent]:
    """Answers to one prompt, as events; the last one is `usage`.

    Raises:
        SettingsError: A parameter is out of its range.
        TooLongError: The prompt fills the context of the model.
    """
    cache = prefix_cache if prefix_cache is not None else PrefixCache(model)
    if unknown := [token for token in wanted.logit_bias if not 0 <= token < tokenizer.vocab_size]:
        raise SettingsError(
            f"logit_bias names token {unknown[0]}",
            why=f"the tokenizer has tokens 0 to {tokenizer.vocab_size - 1}",
            fix="leave it out",
        )
    produced, seconds = 0, 0.0
    for index in range(wanted.n):
        answer = _Answer(tokenizer, wanted)
        tokens = generate(
            model,
            prompt_ids,
            max_new_tokens=wanted.max_tokens,
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            seed=(wanted.seed + index) % 2**63,
            stop_ids=stop_ids,
            prefix_cache=cache,
            adjust=answer.adjust if answer.adjusts else None,
            observe=answer.observe,
        )
        began = time.perf_counter()
        for event in answer.events(tokens):
            event["index"] = index
            yield event
        seconds += time.perf_counter() - began
        produced += answer.num_tokens
    yield {
        "type": "usage",
        "prompt_tokens": len(prompt_ids),
        "completion_tokens": produced,
        "tokens_per_s": produced / seconds if seconds else 0.0,
    }


class _Answer:
    """One answer while it grows."""

    def __init__(self, tokenizer: Coder, wanted: Wanted) -> None:
        self.num_tokens = 0
        self._tokenizer, self._wanted = tokenizer, wanted
        self._counts: Counter[int] = Counter()
        self._logprobs: list[TokenLogprob] = []
        self._held = ""
        penalised = wanted.presence_penalty or wanted.frequency_penalty
        self.adjusts = bool(penalised or wanted.logit_bias)

    def adjust(self, logits_V: Tensor) -> Tensor:
        changed_V = logits_V.clone()
        for token, count in self._counts.items():
            changed_V[token] -= self._wanted.presence_penalty
            changed_V[token] -= self._wanted.frequency_penalty * count
        for token, bias in self._wanted.logit_bias.items():
            changed_V[token] += bias
        return changed_V

    def observe(self, logits_V: Tensor, token: int) -> None:
        self._counts[token] += 1
        self.num_tokens += 1
        if self._wanted.top_logprobs is None:
            return
        logp_V = torch.log_softmax(logits_V.float(), -1)
        best = logp_V.topk(self._wanted.top_logprobs)
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        entry = self._token(token, float(logp_V[token]))
        entry["top"] = [self._token(*one) for one in top]
        self._logprobs.append(entry)

    def _token(self, token: int, logp: float) -> TokenLogprob:
        text = self._tokenizer.decode([token])
        whole = HALF not in text
        return {
            "token": text,
            "bytes": list(text.encode()) if whole else None,
            "logprob": max(logp, -9999.0),  # the convention for "impossible": JSON has no infinity
        }

    def events(self, tokens: Generation) -> Iterator[AnswerEvent]:
        text = TextStream(self._tokenizer)
        for token in tokens:
            ready, stopped = self._release(text.add(token))
            yield from self._delta(ready)
            if stopped:
                yield {"type": "end", "finish_reason": "stop"}
                return
        ready, stopped = self._release(text.finish())
        yield from self._delta(ready if stopped else ready + self._held)
        ended = stopped or tokens.finish == "stop"
        if ended and self._logprobs:
            self._logprobs.clear()  # the stop token is no part of the answer
        yield {"type": "end", "finish_reason": "stop" if ended else "length"}

    def _delta(self, text: str) -> Iterator[AnswerEvent]:
        if not text:
            return
        event: AnswerEvent = {"type": "delta", "text": text}
        if self._wanted.top_logprobs is not None:
            event["logprobs"], self._logprobs = self._logprobs, []
        yield event

    def _release(self, piece: str) -> tuple[str, bool]:
        """The text that no stop text can still begin in, and whether one has come."""
        if not self._wanted.stop:
            return piece, False
        self._held += piece
        places = [at for stop in self._wanted.stop if (at := self._held.find(stop)) >= 0]
        if places:
            ready, self._held = self._held[: min(places)], ""
            return ready, True
        keep = max(_overlap(self._held, stop) for stop in self._wanted.stop)
        cut = len(self._held) - keep
        ready, self._held = self._held[:cut], self._held[cut:]
        return ready, False


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` with which `stop` begins."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
