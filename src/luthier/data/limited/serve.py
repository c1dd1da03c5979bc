"""The child that opens a tokenizer, compiles a template and renders rows with them.

    python -m luthier.data.limited.serve '{"cpu_s": 60}'

One question after the other on standard input, one answer each on standard output, in order.  Before
each it allows itself `cpu_s` more seconds of processor time; then the system ends it.  The parent
looks at the clock, and reads which question it was at the beginning of the file that is standard
error here: the number of questions begun.
"""

import dataclasses
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from luthier.data.limited import wire
from luthier.data.rendering.published import published
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import RowTemplateError, choose_template
from luthier.data.rendering.values import LimitReached
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Origin
from luthier.errors import LuthierError, TokenizerError

NOWHERE = Origin("", 0)
_TOGETHER_S = 0.005
_CHUNK = 1 << 20
Answer = tuple[wire.Json, list[bytes]]


class TaskServer:
    """Answers questions about one tokenizer and one template at a time."""

    def __init__(self) -> None:
        self._tokenizer: Tokenizer | None = None
        self._renderer: Renderer | None = None
        self._stops = -1
        self._asked: dict[str, Callable[[wire.Json], Answer]] = {
            "open": self._open,
            "tokenizer": self._only_tokenizer,
            "encode": self._encode,
            "published_encode": self._published_encode,
            "offsets": self._offsets,
            "render": self._render,
            "prompt": self._prompt,
            "explain": self._explain,
            "placed": self._placed,
            "published": self._published,
        }

    def answer(self, body: wire.Json) -> bytes:
        """What is sent back: what was asked for or the error, and what the renderer noted."""
        try:
            made, parts = self._asked[body["ask"]](body)
        except LuthierError as error:
            made, parts = {"error": error.as_dict()}, []
            if isinstance(error, RowTemplateError):
                made["of_row"] = True
            if isinstance(error.__cause__, LimitReached):
                made["limit"] = True
        except MemoryError:
            made, parts = {"stopped": "memory"}, []
        except Exception:  # noqa: BLE001 - the other side raises it, with the place in its message
            made, parts = {"fault": traceback.format_exc(limit=-3)}, []
        return wire.answer({**made, **self._noted()}, *parts)

    def _noted(self) -> wire.Json:
        """What the last question added to the accounts, in the order in which it came up."""
        renderer = self._renderer
        if renderer is None:
            return {}
        made: wire.Json = {}
        for name in ("counts", "controls", "left_out"):
            counter = getattr(renderer, name)
            if counter:
                made[name] = dict(counter)
                counter.clear()
        if renderer.notices:
            made["notices"] = list(renderer.notices)
            renderer.notices.clear()
        if (count := len(renderer.stop_ids)) != self._stops:
            self._stops = count
            made["stop_ids"] = sorted(renderer.stop_ids)
        return made

    def _load(self, body: wire.Json) -> Tokenizer:
        """The tokenizer of a folder; the one at hand if it is the one that is meant."""
        self._renderer = None
        held = self._tokenizer
        if held is None or held.fingerprint != body.get("fingerprint"):
            self._tokenizer = None
            held = self._tokenizer = Tokenizer.from_folder(Path(body["folder"]))
        if body.get("fingerprint") not in (None, held.fingerprint):
            raise TokenizerError(
                f"the tokenizer in {body['folder']} changed while it was read",
                why="a run is tied to the exact files it began with",
                fix="start again when the files are complete",
            )
        return held

    def _current(self) -> Tokenizer:
        assert self._tokenizer is not None, "texts come behind `tokenizer`"
        return self._tokenizer

    def _only_tokenizer(self, body: wire.Json) -> Answer:
        return {"guarded": self._load(body).guarded}, []

    def _open(self, body: wire.Json) -> Answer:
        tokenizer, self._stops = self._load(body), -1
        template, wanted = None, body["template"]
        if wanted is not None:
            now = datetime.fromisoformat(wanted["now"])
            template, _ = choose_template(tokenizer, **{**wanted, "now": now})
        self._renderer = Renderer(tokenizer, template, **body["settings"])
        facts = self._renderer.facts
        return {"facts": None if facts is None else dataclasses.asdict(facts)}, []

    def _here(self) -> Renderer:
        assert self._renderer is not None, "rows come behind `open`"
        return self._renderer

    def _render(self, body: wire.Json) -> Answer:
        renderer = self._here()
        renderer.seq_length = body["limit"]
        origin = Origin(body["file"], body["line"]) if "file" in body else NOWHERE
        return wire.made_answer(renderer.render(wire.sample_of(body["row"], origin)))

    def _prompt(self, body: wire.Json) -> Answer:
        messages = wire.messages_of(body["messages"])
        ids = self._here().prompt(messages, body["tools"], body["kwargs"])
        return {}, [ids.astype("<i4", copy=False).tobytes()]

    def _explain(self, body: wire.Json) -> Answer:
        return wire.pieces_answer(self._here().explain(wire.sample_of(body["row"], NOWHERE)))

    def _placed(self, body: wire.Json) -> Answer:
        placed = self._here().placed(wire.messages_of(body["messages"]))
        return {"messages": wire.messages_json(placed)}, []

    def _published(self, body: wire.Json) -> Answer:
        found = published(self._here(), wire.sample_of(body["row"], NOWHERE))
        return {"published": None if found is None else dataclasses.asdict(found)}, []

    def _encode(self, body: wire.Json) -> Answer:
        ids = self._current().encode_piece(body["text"], continued=body["continued"])
        return {}, [ids.astype("<i4", copy=False).tobytes()]

    def _published_encode(self, body: wire.Json) -> Answer:
        ids = self._current().encode(body["text"], parse_special=True)
        return {}, [ids.astype("<i4", copy=False).tobytes()]

    def _offsets(self, body: wire.Json) -> Answer:
        return {"offsets": self._current().offsets(body["text"])}, []


class _Pipe:
    """Both directions.  Several answers are sent together, since each delivery wakes the other side."""

    def __init__(self, questions: int, answers: int) -> None:
        self._questions, self._answers = questions, answers
        self._read = bytearray()
        self._held: list[bytes] = []
        self._since = 0.0

    def next(self) -> Any:
        """The next question; None when there will be no more."""
        size = wire.QUESTION.size
        while (whole := self._whole()) is None:
            found = os.read(self._questions, _CHUNK)
            if not found:
                return None
            self._read += found
        body = json.loads(self._read[size:whole])
        del self._read[:whole]
        return body

    def put(self, answer: bytes) -> None:
        """Send an answer, at once unless the next question is here already and the last time is near."""
        now = time.monotonic()
        self._held.append(answer)
        if now - self._since > _TOGETHER_S or self._whole() is None:
            self._since = now
            sent = memoryview(b"".join(self._held))
            self._held.clear()
            while sent:
                sent = sent[os.write(self._answers, sent) :]

    def _whole(self) -> int | None:
        """Bytes of the next question with its head, if all of it has been read."""
        size = wire.QUESTION.size
        if len(self._read) < size:
            return None
        whole: int = size + wire.QUESTION.unpack_from(self._read)[0]
        return whole if len(self._read) >= whole else None


def _allow(cpu_s: int) -> None:
    """So many seconds of processor time from now on, the one that has begun included."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(time.process_time()) + 1 + cpu_s
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def main() -> int:
    """Answer until the other side closes."""
    cpu_s = json.loads(sys.argv[1])["cpu_s"]
    pipe = _Pipe(0, os.dup(1))
    os.dup2(2, 1)  # whatever else is printed would break the protocol
    server, begun = TaskServer(), 0
    while (body := pipe.next()) is not None:
        begun += 1
        os.pwrite(2, wire.BEGUN.pack(begun), 0)
        _allow(body.get("cpu_s", cpu_s))
        pipe.put(server.answer(body))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
