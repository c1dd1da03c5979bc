"""A dialogue with a model: history, streamed answers, base and tuned side by side."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from torch import nn

from luthier.data.types import Ids, Message
from luthier.errors import AdapterError, SettingsError, TooLongError
from luthier.inference.generate import (
    Finish,
    Generation,
    PrefixCache,
    batch_generate,
    context_of,
    generate,
)
from luthier.inference.stream import Decoder, stream_text

MIN_ANSWER = 64
"""Tokens kept free for an answer before the oldest turns of a long dialogue are left out."""


class Prompter(Protocol):
    """The part of `luthier.data.rendering.render.Renderer` that a dialogue needs."""

    @property
    def stop_ids(self) -> frozenset[int]: ...
    def prompt(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> Ids: ...


class Adapted(Protocol):
    """The part of `luthier.models.adapters.Adapters` that a comparison needs."""

    def disabled(self) -> AbstractContextManager[object]: ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn; the ranges are those of `generate`."""

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Comparison(NamedTuple):
    """Two answers to one question after the same history."""

    base: str
    tuned: str


class ChatSession:
    """One dialogue with one model.

    Attributes:
        history: The turns so far, system text first if there is one.
        finish: Why the last answer ended; None before the first.
        notices: What the person should know about the last answer: turns left out, no room left.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Decoder,
        renderer: Prompter,
        *,
        system_prompt: str | None = None,
        sampling: Sampling | None = None,
        adapters: Adapted | None = None,
        stop_ids: Collection[int] = (),
    ) -> None:
        """Begin a dialogue.

        Args:
            renderer: Renders messages with the template the model was trained with.
            adapters: What `compare` switches off; None if the model has no adapter.
            stop_ids: Ends of an answer besides those of renderer and model.
        """
        self._model, self._tokenizer, self._renderer = model, tokenizer, renderer
        self._adapters = adapters
        self._system = (Message("system", system_prompt),) if system_prompt else ()
        self._cache = PrefixCache(model)
        self.sampling = sampling or Sampling()
        self.stop_ids = frozenset({*renderer.stop_ids, *model_stops(model), *stop_ids})
        self.notices: list[str] = []
        self.reset()

    def reset(self) -> None:
        """Forget all turns; the system text stays."""
        self.history: list[Message] = list(self._system)
        self.finish: Finish | None = None
        self.notices.clear()

    def send(self, text: str) -> Iterator[str]:
        """The answer to a message, in pieces of whole characters.

        Question and answer join the history when the pieces have been read, or as far as they were.

        Raises:
            SettingsError: The message is empty, or the sampling is out of range.
            TooLongError: The message alone fills the model's context.
        """
        tokens = self._begin(text, self._cache)
        return self._stream(text, tokens)

    def compare(self, text: str) -> Comparison:
        """What the base model and the tuned one answer; the history stays as it is.

        Raises:
            AdapterError: The model has no adapter that could be switched off.
        """
        with self._required_adapters().disabled():
            base = "".join(self._pieces(self._begin(text, PrefixCache(self._model))))
        tuned = "".join(self._pieces(self._begin(text, self._cache)))
        return Comparison(base, tuned)

    def compare_each(self, texts: Sequence[str]) -> list[Comparison]:
        """Base and tuned, greedy, on many questions, each as if it were the first of a dialogue.

        Questions of equal length are computed together, which is several times faster than
        `compare` one by one.
        """
        with self._required_adapters().disabled():
            base = self._answer_each(texts)
        return [Comparison(*both) for both in zip(base, self._answer_each(texts), strict=True)]

    def _answer_each(self, texts: Sequence[str]) -> list[str]:
        messages = ([*self._system, Message("user", text)] for text in texts)
        answers = batch_generate(
            self._model,
            [self._renderer.prompt(turns).tolist() for turns in messages],
            max_new_tokens=self.sampling.max_new_tokens,
            stop_ids=self.stop_ids,
        )
        return [self._tokenizer.decode(answer, skip_special=True) for answer in answers]

    def _required_adapters(self) -> Adapted:
        if self._adapters is None:
            raise AdapterError(
                "this model has no adapter to compare with its base",
                why="compare answers twice, with the adapter and without it",
                fix="luthier chat RUN, with a run of method lora or qlora",
            )
        return self._adapters

    def _begin(self, text: str, cache: PrefixCache) -> Generation:
        if not text.strip():
            raise SettingsError("the message is empty", why="there is nothing to answer")
        self.notices.clear()
        asked = [*self.history, Message("user", text)]
        prompt_ids = self._fit(asked)
        turn = sum(message.role == "user" for message in asked)
        sampling = replace(self.sampling, seed=(self.sampling.seed + turn - 1) % 2**63)
        return generate(
            self._model,
            prompt_ids,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop_ids=self.stop_ids,
            prefix_cache=cache,
        )

    def _stream(self, text: str, tokens: Generation) -> Iterator[str]:
        answer = ""
        try:
            for piece in self._pieces(tokens):
                answer += piece
                yield piece
        finally:
            if answer or tokens.finish:
                self.history += [Message("user", text), Message("assistant", answer)]

    def _pieces(self, tokens: Generation) -> Iterator[str]:
        yield from stream_text(self._tokenizer, tokens)
        self.finish = tokens.finish
        if tokens.finish == "context":
            self.notices.append(
                f"the answer was cut: the model holds {context_of(self._model):,} tokens in all"
            )
        elif tokens.finish == "length":
            self.notices.append(
                f"the answer was cut after max_new_tokens={self.sampling.max_new_tokens}"
            )

    def _fit(self, asked: list[Message]) -> list[int]:
        """The prompt, without the oldest turns if the model would have no room to answer."""
        context = context_of(self._model)
        head, turns = asked[: len(self._system)], asked[len(self._system) :]
        dropped = 0
        while True:
            ids = [int(token) for token in self._renderer.prompt([*head, *turns])]
            room = MIN_ANSWER if context is None else context - len(ids)
            if room >= min(MIN_ANSWER, self.sampling.max_new_tokens) or len(turns) < 3:
                break
            turns, dropped = turns[2:], dropped + 2
        if context is not None and room <= 0:
            raise TooLongError(
                f"the message makes a prompt of {len(ids):,} tokens",
                why=f"the model holds {context:,}, the answer included",
                fix="send a shorter message",
            )
        if dropped:
            self.notices.append(
                f"the oldest {dropped} messages no longer fit the model's {context:,} tokens and were left out"
            )
        return ids


def model_stops(model: nn.Module) -> frozenset[int]:
    """Ids that end an answer by the configuration of the model itself."""
    config: Any = getattr(model, "generation_config", None)
    found = getattr(config, "eos_token_id", None)
    return frozenset(found if isinstance(found, list) else () if found is None else (found,))
