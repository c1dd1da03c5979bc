"""From the events of the chat process to OpenAI's chat completions and completions."""

import json
import re
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from luthier.bounded import decode
from luthier.json_values import object_of
from luthier.process_messages import AnswerEvent, TokenLogprob
from luthier.service.http import schemas

_TOOL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
_OPENING = "<tool_call>"


@dataclass
class GrowingAnswer:
    """One of the `n` answers, while it grows."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str = "stop"


@dataclass
class GrowingAnswers:
    """All answers to one request."""

    answers: dict[int, GrowingAnswer] = field(default_factory=dict)
    usage: AnswerEvent = field(default_factory=lambda: AnswerEvent(type="usage"))

    def take(self, event: AnswerEvent) -> None:
        """Add an event."""
        kind = event["type"]
        if kind == "usage":
            self.usage = event
        elif kind in ("delta", "end"):
            answer = self.answers.setdefault(event["index"], GrowingAnswer())
            answer.text += event.get("text", "")
            answer.logprobs += event.get("logprobs") or []
            answer.finish_reason = event.get("finish_reason", answer.finish_reason)


def new_id(prefix: str) -> str:
    """An id of an answer."""
    return f"{prefix}-{secrets.token_hex(12)}"


def usage_object(usage: AnswerEvent) -> schemas.Usage:
    """Counts of tokens, and what else is known in `luthier`."""
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    hidden = ("type", "prompt_tokens", "completion_tokens")
    counted: schemas.Usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if more := {name: value for name, value in usage.items() if name not in hidden}:
        counted["luthier"] = more
    return counted


def chat_logprobs(entries: Iterable[TokenLogprob]) -> dict[str, object]:
    """Log-probabilities of a chat answer."""
    return {"content": [_entry(one) for one in entries], "refusal": None}


def _entry(one: TokenLogprob) -> dict[str, object]:
    tops = one.get("top") or ()
    return {
        "token": one["token"],
        "logprob": one["logprob"],
        "bytes": one.get("bytes"),
        "top_logprobs": [
            {"token": top["token"], "logprob": top["logprob"], "bytes": top.get("bytes")}
            for top in tops
        ],
    }


def text_logprobs(entries: Iterable[TokenLogprob], offset: int = 0) -> dict[str, object]:
    """Log-probabilities of a completion: four lists of the same length."""
    tokens: list[str] = []
    values: list[float] = []
    tops: list[dict[str, float]] = []
    offsets: list[int] = []
    for one in entries:
        tokens.append(one["token"])
        values.append(one["logprob"])
        listed = one.get("top") or ()
        tops.append({top["token"]: top["logprob"] for top in listed})
        offsets.append(offset)
        offset += len(one["token"])
    return {
        "tokens": tokens,
        "token_logprobs": values,
        "top_logprobs": tops,
        "text_offset": offsets,
    }


class CalledFunction(TypedDict):
    """A function and its arguments, as JSON text."""

    name: str
    arguments: str


class WireToolCall(TypedDict):
    """A call as OpenAI writes it."""

    id: str
    type: Literal["function"]
    function: CalledFunction


def tool_calls(text: str, tools: Iterable[Mapping[str, object]]) -> tuple[str, list[WireToolCall]]:
    """What is said besides calls, and the calls, where the answer has them as models write them.

    Only functions that were offered count; everything else stays text.
    """
    names = {object_of(tool.get("function")).get("name") for tool in tools}
    calls, rest = list[WireToolCall](), text
    for match in _TOOL.finditer(text):
        try:
            call = decode(match[1])
        except ValueError:
            continue
        if not isinstance(call, dict) or call.get("name") not in names:
            continue
        arguments = call.get("arguments", call.get("parameters", {}))
        body = arguments if isinstance(arguments, str) else json.dumps(arguments)
        function: CalledFunction = {"name": call["name"], "arguments": body}
        calls.append({"id": new_id("call"), "type": "function", "function": function})
        rest = rest.replace(match[0], "")
    return rest.strip() if calls else text, calls


def chat_object(
    identifier: str,
    model: str,
    done: GrowingAnswers,
    *,
    wants_logprobs: bool,
    tools: Collection[Mapping[str, object]],
) -> schemas.ChatCompletion:
    """A whole chat completion."""
    choices: list[schemas.Free] = []
    for index, answer in sorted(done.answers.items()):
        said, calls = tool_calls(answer.text, tools)
        message: dict[str, object] = {
            "role": "assistant",
            "content": said if said or not calls else None,
            "refusal": None,
        }
        if calls:
            message["tool_calls"] = calls
        choices.append(
            {
                "index": index,
                "message": message,
                "finish_reason": "tool_calls" if calls else answer.finish_reason,
                "logprobs": chat_logprobs(answer.logprobs) if wants_logprobs else None,
            }
        )
    return {
        "id": identifier,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage_object(done.usage),
        "system_fingerprint": None,
    }


class ChatChunks:
    """The stream of a chat completion: role first, deltas, an ending each, usage, `[DONE]`."""

    def __init__(
        self,
        identifier: str,
        model: str,
        *,
        wants_logprobs: bool,
        wants_usage: bool,
        tools: Collection[Mapping[str, object]],
    ) -> None:
        self._base = {
            "id": identifier,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
        }
        self._logprobs, self._usage, self._tools = wants_logprobs, wants_usage, tools
        self._begun: set[int] = set()
        self._held: dict[int, str] = {}  # text that may still turn out to be a call

    def of(self, event: AnswerEvent) -> Iterator[dict[str, object]]:
        """The chunks of an event."""
        kind = event["type"]
        if kind == "usage":
            if self._usage:
                yield {**self._base, "choices": [], "usage": usage_object(event)}
            return
        if kind not in ("delta", "end"):
            return
        index = event["index"]
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
        if kind == "delta":
            text = self._said(index, event.get("text", ""))
            if text or event.get("logprobs"):
                yield self._chunk(index, {"content": text}, logprobs=event.get("logprobs"))
            return
        yield from self._end(index, str(event.get("finish_reason") or "stop"))

    def _said(self, index: int, text: str) -> str:
        """What of the text can be sent; with tools, a call is held back until it is whole."""
        if not self._tools:
            return text
        held = self._held.get(index, "") + text
        start = held.find(_OPENING)
        if start < 0:
            start = len(held) - _overlap(held, _OPENING)
        self._held[index] = held[start:]
        return held[:start]

    def _end(self, index: int, reason: str) -> Iterator[dict[str, object]]:
        held = self._held.pop(index, "")
        said, calls = tool_calls(held, self._tools) if held else ("", [])
        if said:
            yield self._chunk(index, {"content": said})
        for position, call in enumerate(calls):
            function = call["function"]
            opening = {**call, "index": position, "function": {**function, "arguments": ""}}
            yield self._chunk(index, {"tool_calls": [opening]})
            pieces = {"index": position, "function": {"arguments": function["arguments"]}}
            yield self._chunk(index, {"tool_calls": [pieces]})
        yield self._chunk(index, {}, reason="tool_calls" if calls else reason)

    def _chunk(
        self,
        index: int,
        delta: Mapping[str, object],
        *,
        reason: str | None = None,
        logprobs: list[TokenLogprob] | None = None,
    ) -> dict[str, object]:
        listed = chat_logprobs(logprobs) if self._logprobs and logprobs else None
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": listed}
        more = {"usage": None} if self._usage else {}
        return {**self._base, "choices": [choice], **more}


def _overlap(text: str, word: str) -> int:
    """How much of the end of the text is the beginning of the word."""
    return next((n for n in range(len(word) - 1, 0, -1) if text.endswith(word[:n])), 0)
