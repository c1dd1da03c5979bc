"""Renderers whose rows are rendered in children: for what others wrote always, for ours if it is much."""

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sized
from collections.abc import Sequence as Items
from typing import Any

from luthier.data.limited import wire
from luthier.data.limited.crew import Crew, error_of, too_large
from luthier.data.limited.process import ChildAnswer, ChildEnded, ChildLimits
from luthier.data.rendering.drafts import Piece
from luthier.data.rendering.probe import TemplateFacts
from luthier.data.rendering.published import Published
from luthier.data.rendering.render import Kwargs, Renderer, Tools, TrainOn, Truncation
from luthier.data.rendering.template import RowTemplateError, TemplateText, refused
from luthier.data.rendering.turns import Messages
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import BadRow, Example, Ids, Message, Sample, num_chars
from luthier.errors import DataError, LuthierError, TemplateError

_MOST_STOPS = 3  # rows that may be stopped at a limit; the others are not tried
_HELD = 8_000_000  # characters that are sent ahead
_LOOK_S, _WORTH_S = 0.3, 1.0
"""Rows are timed for so long; more children are started where the others will take so long."""

Made = Example | BadRow | DataError


def opening(
    tokenizer: Tokenizer, template: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> wire.Json:
    """The question that opens a child.

    Args:
        template: The arguments of `choose_text` but the tokenizer, `now` as text; None for none.
        settings: The other arguments of `Renderer`.
    """
    return {
        "ask": "open",
        "folder": str(tokenizer.folder),
        "fingerprint": tokenizer.fingerprint,
        "template": template,
        "settings": dict(settings),
    }


class HelpedRenderer(Renderer):
    """Renders here, and many rows in children, one for each core."""

    crew: Crew

    def render_each(self, samples: Iterable[Sample]) -> Iterator[Made]:
        pace, waiting = Pace(samples), iter(samples)
        if self.crew.most > 1:
            for sample in waiting:
                yield from super().render_each((sample,))
                if pace.is_slow():
                    self.crew.widen()
                    break
        else:
            yield from super().render_each(waiting)
        yield from in_children(self, self.crew, waiting)

    def rest(self) -> None:
        self.crew.rest()


class Pace:
    """How long a number of rows will take, from the first of them."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._total = len(samples) if isinstance(samples, Sized) else 0
        self._done, self._began = 0, time.monotonic()

    def is_slow(self) -> bool:
        """Count one more row; whether those that are left are worth the start of more children."""
        self._done += 1
        taken = time.monotonic() - self._began
        left = taken / self._done * (self._total - self._done)
        return taken > _LOOK_S and left > _WORTH_S


class LimitedRenderer(Renderer):
    """Renders nothing here: template and tokenizer run in a child within limits.

    Args:
        template: As text; it is compiled in the child.

    Raises:
        TemplateError: The child says that the template is of no use.
    """

    def __init__(  # its base compiles and probes, which is what must not happen here
        self,
        crew: Crew,
        tokenizer: Tokenizer,
        template: TemplateText | None,
        *,
        objective: str = "sft",
        train_on: TrainOn | None = None,
        system_prompt: str | None = None,
        seq_length: int = 2048,
        truncation: Truncation = "prompt_start",
    ) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.objective, self.train_on, self.truncation = objective, train_on, truncation
        self.system_prompt, self.seq_length = system_prompt, max(seq_length, 2)
        self.notices: list[str] = []
        self.counts: Counter[str] = Counter()
        self.controls: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.crew = crew
        self._ends: frozenset[int] = tokenizer.stop_ids
        body = crew.open()
        self._facts = None if body["facts"] is None else TemplateFacts(**body["facts"])
        take_notes(self, body)

    @property
    def facts(self) -> TemplateFacts | None:
        return self._facts

    @property
    def stop_ids(self) -> frozenset[int]:
        return self._ends

    def render(self, sample: Sample) -> Example | BadRow:
        (made,) = in_children(self, self.crew, [sample])
        if isinstance(made, DataError):
            raise made
        return made

    def render_each(self, samples: Iterable[Sample]) -> Iterator[Made]:
        return in_children(self, self.crew, samples)

    def prompt(
        self, messages: Items[Message], tools: Tools = (), kwargs: Kwargs | None = None
    ) -> Ids:
        body = {"messages": wire.messages_json(messages), "tools": list(tools), "kwargs": kwargs}
        return wire.ids_of(self._ask({"ask": "prompt", **body}, "the dialogue").rest)

    def explain(self, sample: Sample) -> list[list[Piece]]:
        found = self._ask({"ask": "explain", "row": wire.sample_json(sample)}, str(sample.origin))
        return wire.pieces_of(found.body, found.rest)

    def placed(self, messages: Items[Message]) -> Messages:
        body = {"ask": "placed", "messages": wire.messages_json(messages)}
        return wire.messages_of(self._ask(body, "the dialogue").body["messages"])

    def published(self, sample: Sample) -> Published | None:
        body = {"ask": "published", "row": wire.sample_json(sample)}
        found = self._ask(body, str(sample.origin)).body["published"]
        return None if found is None else Published(**found)

    def rest(self) -> None:
        self.crew.rest()

    def _ask(self, body: wire.Json, whose: str) -> ChildAnswer:
        try:
            found = self.crew.ask(body)
        except TypeError as error:
            raise refused(error) from error
        except ChildEnded as ended:
            raise stopped(ended, whose, self.crew.limits) from ended
        if (problem := taken(self, self.crew, found, whose)) is not None:
            raise problem
        return found


def in_children(renderer: Renderer, crew: Crew, samples: Iterable[Sample]) -> Iterator[Made]:
    """What the children make of each sample, in order; notes of it go to `renderer` as it comes."""
    pace = Pace(samples)
    waiting: deque[tuple[Sample, int | BadRow]] = deque()
    held = 0
    source = iter(samples)
    try:
        for sample in source:
            waiting.append((sample, _sent(renderer, crew, sample)))
            held += num_chars(sample)
            while waiting and (len(waiting) >= crew.ahead or held > _HELD):
                held -= num_chars(waiting[0][0])
                yield _made(renderer, crew, *waiting.popleft())
                if pace.is_slow():
                    crew.widen()
            if len(crew.stops) >= _MOST_STOPS:
                break
        while waiting and len(crew.stops) < _MOST_STOPS:
            yield _made(renderer, crew, *waiting.popleft())
        if len(crew.stops) >= _MOST_STOPS:
            yield from (crew.stops[-1] for _ in itertools.chain(waiting, source))
    finally:
        crew.forget(number for _, number in waiting if isinstance(number, int))


def _sent(renderer: Renderer, crew: Crew, sample: Sample) -> int | BadRow:
    origin = sample.origin
    try:
        body = {"ask": "render", "row": wire.sample_json(sample), "limit": renderer.seq_length}
        return crew.submit({**body, "file": origin.file, "line": origin.line})
    except TypeError as error:  # a value that no template can be given
        return BadRow(origin, refused(error).what, "template-refuses")


def _made(renderer: Renderer, crew: Crew, sample: Sample, number: int | BadRow) -> Made:
    if isinstance(number, BadRow):
        return number
    origin = sample.origin
    found = crew.result(number)
    if isinstance(found, ChildEnded):
        crew.stops.append(stopped(found, str(origin), crew.limits))
        return crew.stops[-1]
    if (error := taken(renderer, crew, found, str(origin))) is not None:
        if not isinstance(error, DataError):
            raise error
        if "limit" in found.body or "stopped" in found.body:
            crew.stops.append(error)
        return error
    return wire.made_of(found.body, found.rest, origin)


def taken(renderer: Renderer, crew: Crew, found: ChildAnswer, whose: str) -> LuthierError | None:
    """Note what an answer says beside its result; the error in it, if there is one."""
    take_notes(renderer, found.body)
    if "stopped" in found.body:
        return stopped(too_large(crew.limits), whose, crew.limits)
    if "fault" in found.body:
        raise RuntimeError(f"{whose}: {found.body['fault']}")
    if "error" not in found.body:
        return None
    error = error_of(found.body)
    return (
        RowTemplateError(error.what, why=error.why, fix=error.fix)
        if found.body.get("of_row")
        else error
    )


def take_notes(renderer: Renderer, body: Mapping[str, Any]) -> None:
    """Add what one answer counted and noted to the accounts of a renderer."""
    for name in ("counts", "controls", "left_out"):
        if name in body:
            getattr(renderer, name).update(body[name])
    for text in body.get("notices", ()):
        if text not in renderer.notices:
            renderer.notices.append(text)
    if "stop_ids" in body and isinstance(renderer, LimitedRenderer):
        renderer._ends = renderer._ends | frozenset(body["stop_ids"])


def stopped(ended: ChildEnded, whose: str, limits: ChildLimits) -> TemplateError:
    """That a row was stopped at a limit."""
    return TemplateError(
        f"{whose}: the chat template or the tokenizer was stopped: {ended or 'its process ended'}",
        why=limits.said,
        fix="chat_template: FILE.jinja with one that ends, or leave the row out",
    )
