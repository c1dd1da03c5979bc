"""A process that keeps models loaded and answers, one request after the other.

    python -m luthier.worker.chat_process cpu

Lines in: `{"id", "op": "complete", "model", "messages" | "prompt", ...}`, `{"id", "op": "cancel"}`.
Lines out: the events of `luthier.inference.completion` with the `id` of their request, `loading`
before a model is loaded, `error` with the four fields of a LuthierError, `ready` once at the start.
The device is held from the first line to the end of the process.
"""

import contextlib
import dataclasses
import queue
import signal
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from luthier.data.types import Message
from luthier.errors import ChatBusyError, LuthierError, RunBusyError, SettingsError
from luthier.inference.completion import Wanted, complete
from luthier.inference.generate import PrefixCache
from luthier.process_messages import AnswerEvent
from luthier.recipes.after.open_model import Opened, open_model, training_of
from luthier.recipes.after.rendering import Rendering, open_rendering, read_dialogue
from luthier.recipes.run.trainee import quantisation_of
from luthier.runs import CHAT, device_lease
from luthier.sources.source import ModelSource, resolve_source
from luthier.surroundings import set_surroundings
from luthier.worker.lines import Lines

MAX_MODELS = 2
"""Base and tuned side by side; a base whose adapter is loaded needs no second copy."""

Request = Mapping[str, Any]


class Models:
    """The models loaded last, the oldest given up first."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, tuple[Opened, PrefixCache]] = OrderedDict()
        self._rendering: tuple[Path, Rendering] | None = None  # of the base asked for last

    def has(self, name: str) -> bool:
        """Whether no loading is needed."""
        return name in self._open or self._tuned_from(name) is not None

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[tuple[Opened, PrefixCache | None]]:
        """The model of that name, loaded if need be, and what it computed last."""
        if name in self._open:
            self._open.move_to_end(name)
            yield self._open[name]
        elif (tuned := self._tuned_from(name)) is not None:
            assert tuned.adapters is not None
            with tuned.adapters.disabled():
                yield self._as_base(tuned, resolve_source(name)), None
        else:
            while len(self._open) >= MAX_MODELS:
                self._open.popitem(last=False)
            opened = open_model(name)
            self._open[name] = opened, PrefixCache(opened.model)
            yield self._open[name]

    def _as_base(self, tuned: Opened, source: ModelSource) -> Opened:
        """The weights of `tuned` with what its base makes of a dialogue, and not its training."""
        if self._rendering is None or self._rendering[0] != source.base:
            self._rendering = source.base, open_rendering(source)
        own = self._rendering[1]
        return dataclasses.replace(
            tuned,
            source=source,
            tokenizer=own.tokenizer,
            renderer=own.renderer,
            system_prompt=own.system_prompt,
            notices=own.notices,
        )

    def _tuned_from(self, name: str) -> Opened | None:
        """An open model that is this base with an adapter, in the same precision."""
        candidates = [one for one, _ in self._open.values() if one.adapters is not None]
        if not candidates:
            return None
        source = resolve_source(name)
        for one in candidates:
            whole = quantisation_of(training_of(one.source)) is None
            if source.adapter is None and one.source.base == source.base and whole:
                return one
        return None


class CancelledError(Exception):
    """Whoever asked no longer listens."""


class GiveWay(Exception):  # noqa: N818 - no error: a wish of somebody else
    """The device is wanted, and nobody waits for an answer."""


class ChatWorker:
    """Requests in the order they came; a cancelled one ends at its next token.

    SIGUSR1 asks for the device: an idle process ends at once, another when its answers are written.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._models = Models()
        self._waiting: queue.Queue[Request | None] = queue.Queue()
        self._cancelled: set[str] = set()
        self._wanted, self._idle = False, False
        signal.signal(signal.SIGUSR1, self._give_way)

    def serve(self) -> None:
        """Answer until standard input closes, or until the device is wanted."""
        threading.Thread(target=self._listen, daemon=True).start()
        with contextlib.suppress(GiveWay):
            while (request := self._next()) is not None:
                self._answer(request)

    def _next(self) -> Request | None:
        if self._wanted and self._waiting.empty():
            return None
        self._idle = True
        try:
            return self._waiting.get()
        finally:
            self._idle = False

    def _give_way(self, number: int, frame: FrameType | None) -> None:
        self._wanted = True
        if self._idle and self._waiting.empty():
            raise GiveWay

    def _listen(self) -> None:
        for body in self._lines.read():
            if body["op"] == "cancel":
                self._cancelled.add(body["id"])
            else:
                self._waiting.put(body)
        self._waiting.put(None)

    def _answer(self, request: Request) -> None:
        try:
            if request["id"] in self._cancelled:  # while it waited
                raise CancelledError
            for event in self._events(request):
                if request["id"] in self._cancelled:
                    raise CancelledError
                self._lines.write({**event, "id": request["id"]})
        except CancelledError:
            self._lines.write({"id": request["id"], "type": "cancelled"})
        except LuthierError as error:
            self._lines.write({"id": request["id"], "type": "error", "error": error.as_dict()})
        except Exception as error:  # noqa: BLE001 - one request failed; the others go on
            traceback.print_exc(file=sys.stderr)
            fault = f"{type(error).__name__}: {error}"[:500]
            self._lines.write({"id": request["id"], "type": "fault", "fault": fault})
        finally:
            self._cancelled.discard(request["id"])

    def _events(self, request: Request) -> Iterator[AnswerEvent]:
        name = request["model"]
        if not self._models.has(name):
            yield {"type": "loading", "model": name}
        with self._models.use(name) as (opened, cache):
            ids = _prompt(opened, request)
            stop_ids = opened.chat().stop_ids
            yield from complete(
                opened.model,
                opened.tokenizer,
                ids,
                _wanted(request),
                stop_ids=stop_ids,
                prefix_cache=cache,
            )


def _prompt(opened: Opened, request: Request) -> list[int]:
    if "prompt" in request:
        tokenizer, prompt = opened.tokenizer, request["prompt"]
        if not isinstance(prompt, str):
            return _token_ids(prompt, tokenizer.vocab_size)
        ids = [int(one) for one in tokenizer.encode(prompt, parse_special=True)]
        bos = tokenizer.bos_id
        return ids if ids[:1] == [bos] or bos is None else [bos, *ids]
    messages = read_dialogue(request["messages"])
    system = opened.system_prompt
    if system and messages and messages[0].role != "system":
        messages = [Message("system", system), *messages]
    return [int(one) for one in opened.renderer.prompt(messages, request.get("tools") or ())]


def _token_ids(prompt: Sequence[int], vocab_size: int) -> list[int]:
    """A prompt that was tokenised elsewhere; nothing is put in front of it."""
    if wrong := [token for token in prompt if not 0 <= token < vocab_size]:
        raise SettingsError(
            f"the prompt has token {wrong[0]}",
            why=f"the tokenizer has tokens 0 to {vocab_size - 1}",
            fix="send the prompt as text",
        )
    return list(prompt)


def _wanted(request: Request) -> Wanted:
    names = ("max_tokens", "temperature", "top_p", "seed", "n", "presence_penalty", "frequency_penalty")  # fmt: skip
    given = {name: request[name] for name in names if request.get(name) is not None}
    return Wanted(
        stop=tuple(request.get("stop") or ()),
        top_logprobs=(request.get("top_logprobs") or 0) if request.get("logprobs") else None,
        logit_bias={int(k): float(v) for k, v in (request.get("logit_bias") or {}).items()},
        **given,
    )


def main() -> int:
    """Hold the device (none for a processor that is asked for by name) and answer."""
    set_surroundings()
    lines = Lines()
    worker = ChatWorker(lines)  # hears of a wish for the device before it has it
    device = sys.argv[1]
    with contextlib.ExitStack() as stack:
        if device != "none":
            try:
                stack.enter_context(device_lease(device, what=CHAT))
            except RunBusyError as busy:
                error = ChatBusyError(busy.what, why=busy.why, fix=busy.fix)
                lines.write({"type": "refused", "error": error.as_dict()})
                return 0
        lines.write({"type": "ready"})
        worker.serve()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
