"""Answers to a few held-out prompts at every evaluation, so that a person sees what is learned.

Asked for by `Wishes.samples`, the number of prompts; the service asks for its jobs.  Nothing of the
training depends on them: they are greedy, read the weights, and draw no random number.
"""

import time
from collections.abc import Sequence

from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Example
from luthier.engine.memory import is_out_of_memory, release_memory
from luthier.events import Evaluated, Event, Notice, SampleAnswered
from luthier.inference.generate import generate
from luthier.recipes.run.trainee import Trainee
from luthier.runs import EventLog

MAX_TOKENS, MAX_SECONDS = 64, 10.0
"""Of one answer, and of all of one evaluation: a slow device gives shorter answers."""

EAGER, PAUSE_S = 20, 60.0
"""So many evaluations are shown at once; later ones at most once in so many seconds."""


class Samples:
    """Hears evaluations and writes a `sample` event for each prompt behind them.

    Args:
        examples: Whose beginnings are the prompts.
    """

    def __init__(
        self, log: EventLog, trainee: Trainee, tokenizer: Tokenizer, examples: Sequence[Example]
    ) -> None:
        self._log, self._model, self._tokenizer = log, trainee.model, tokenizer
        self._prompts = [_halves(example) for example in examples]
        self._shown, self._last = 0, 0.0

    def hear(self, event: Event) -> None:
        """Answer behind an evaluation; all else is left alone."""
        early = self._shown >= EAGER and time.monotonic() - self._last < PAUSE_S
        if not isinstance(event, Evaluated) or early:
            return
        self._shown, self._last = self._shown + 1, time.monotonic()
        try:
            for prompt, expected in self._prompts:
                self._show(event.step, prompt, expected)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release_memory()
            self._prompts = []
            self._log.emit(Notice(text="memory ran out for sample answers: there are no more"))

    def _show(self, step: int, prompt: list[int], expected: list[int]) -> None:
        tokens = generate(
            self._model, prompt, max_new_tokens=MAX_TOKENS, stop_ids=self._tokenizer.stop_ids
        )
        answer: list[int] = []
        for token in tokens:
            answer.append(token)
            if time.monotonic() - self._last > MAX_SECONDS:
                break
        self._log.emit(
            SampleAnswered(
                step=step,
                prompt=self._tokenizer.decode(prompt, skip_special=True).strip(),
                answer=self._tokenizer.decode(answer, skip_special=True),
                expected=self._tokenizer.decode(expected[:MAX_TOKENS], skip_special=True),
                whole=tokens.finish == "stop",
            )
        )


def _halves(example: Example) -> tuple[list[int], list[int]]:
    """The tokens before the first learned one, and those from there on, of the (chosen) answer."""
    sequence = example.sequences[0]
    first = int((sequence.weights > 0).argmax())
    return sequence.ids[:first].tolist(), sequence.ids[first:].tolist()
