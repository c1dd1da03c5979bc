"""Answers to a few prompts at every evaluation, so that a person sees what is learned.

Questions of `sample_prompts` are answered at every one; `Wishes.samples` is a number of held-out
prompts, which the service asks for.  Nothing of the training depends on them: they are greedy, read
the weights, and draw no random number.
"""

import time
from collections.abc import Sequence

from luthier.data.rendering.render import Renderer
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Example, Ids, Message
from luthier.engine.memory import is_out_of_memory, release_memory
from luthier.errors import TooLongError
from luthier.events import Evaluated, Event, Notice, SampleAnswered
from luthier.inference.generate import generate
from luthier.recipes.run.trainee import Trainee
from luthier.runs import EventLog

MAX_TOKENS, MAX_SECONDS = 64, 10.0
"""Of one answer, and of all of one evaluation: a slow device gives shorter answers."""

EAGER, PAUSE_S = 20, 60.0
"""So many evaluations are shown with held-out prompts; later ones at most once in so many seconds."""


class Samples:
    """Hears evaluations and writes a `sample` event for each prompt behind them.

    Args:
        examples: Whose beginnings are the prompts.
        questions: Each as text, and as the tokens that ask it.
    """

    def __init__(
        self,
        log: EventLog,
        trainee: Trainee,
        tokenizer: Tokenizer,
        examples: Sequence[Example],
        questions: Sequence[tuple[str, Ids]] = (),
    ) -> None:
        self._log, self._model, self._tokenizer = log, trainee.model, tokenizer
        self._prompts = [_halves(example) for example in examples]
        self._questions = questions
        self._shown, self._last = 0, 0.0

    def hear(self, event: Event) -> None:
        """Answer behind an evaluation; all else is left alone."""
        if not isinstance(event, Evaluated):
            return
        began = time.monotonic()
        early = self._shown >= EAGER and began - self._last < PAUSE_S
        try:
            for question, ids in self._questions:
                self._show(event.step, ids.tolist(), question, "", began)
            if early or not self._prompts:
                return
            self._shown, self._last = self._shown + 1, time.monotonic()
            for prompt, expected in self._prompts:
                asked = self._tokenizer.decode(prompt, skip_special=True).strip()
                right = self._tokenizer.decode(expected[:MAX_TOKENS], skip_special=True)
                self._show(event.step, prompt, asked, right, self._last)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release_memory()
            self._prompts, self._questions = [], ()
            self._log.emit(Notice(text="memory ran out for sample answers: there are no more"))

    def _show(self, step: int, prompt: list[int], asked: str, right: str, began: float) -> None:
        tokens = generate(
            self._model, prompt, max_new_tokens=MAX_TOKENS, stop_ids=self._tokenizer.stop_ids
        )
        answer: list[int] = []
        for token in tokens:
            answer.append(token)
            if time.monotonic() - began > MAX_SECONDS:
                break
        self._log.emit(
            SampleAnswered(
                step=step,
                prompt=asked,
                answer=self._tokenizer.decode(answer, skip_special=True),
                expected=right,
                whole=tokens.finish == "stop",
            )
        )


def questions_of(
    prompts: Sequence[str], renderer: Renderer, context: int | None
) -> list[tuple[str, Ids]]:
    """Each prompt with the tokens that ask it, system text of the training included.

    Raises:
        TooLongError: One leaves no room for an answer.
    """
    made = []
    for prompt in prompts:
        ids = renderer.prompt([Message("user", prompt)])
        if context is not None and len(ids) >= context:
            raise TooLongError(
                f"sample_prompts: {prompt[:60]!r} makes a prompt of {len(ids):,} tokens",
                why=f"the model holds {context:,}, the answer included",
                fix="shorten it",
            )
        made.append((prompt, ids))
    renderer.rest()
    return made


def _halves(example: Example) -> tuple[list[int], list[int]]:
    """The tokens before the first learned one, and those from there on, of the (chosen) answer."""
    sequence = example.sequences[0]
    first = int((sequence.weights > 0).argmax())
    return sequence.ids[:first].tolist(), sequence.ids[first:].tolist()
