"""OpenAI's completions: continuations of a text, whole and in pieces."""

import time
from collections.abc import Iterator, Mapping, Sequence

from luthier.process_messages import AnswerEvent
from luthier.service.http import schemas
from luthier.service.http.openai.chat_completions import GrowingAnswers, text_logprobs, usage_object


def text_object(
    identifier: str, model: str, done: Sequence[tuple[str, GrowingAnswers]], *, wants_logprobs: bool
) -> schemas.Completion:
    """A whole completion.

    Args:
        done: For each prompt the text to repeat before its answers, and these.
    """
    choices: list[dict[str, object]] = []
    totals: AnswerEvent = {"type": "usage", "prompt_tokens": 0, "completion_tokens": 0}
    for echo, answers in done:
        for _, answer in sorted(answers.answers.items()):
            listed = text_logprobs(answer.logprobs, len(echo)) if wants_logprobs else None
            choices.append(
                {
                    "index": len(choices),
                    "text": echo + answer.text,
                    "finish_reason": answer.finish_reason,
                    "logprobs": listed,
                }
            )
        totals["prompt_tokens"] += answers.usage.get("prompt_tokens", 0)
        totals["completion_tokens"] += answers.usage.get("completion_tokens", 0)
    return {
        "id": identifier,
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage_object(totals),
        "system_fingerprint": None,
    }


class TextChunks:
    """The stream of a completion."""

    def __init__(
        self, identifier: str, model: str, *, wants_logprobs: bool, wants_usage: bool, echo: str
    ) -> None:
        self._base = {
            "id": identifier,
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
        }
        self._logprobs, self._usage, self._echo = wants_logprobs, wants_usage, echo
        self._lengths: dict[int, int] = {}

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
        if index not in self._lengths:
            self._lengths[index] = len(self._echo)
            if self._echo:
                yield self._chunk(index, self._echo, None, None)
        if kind == "delta":
            entries = event.get("logprobs") or []
            listed = text_logprobs(entries, self._lengths[index]) if self._logprobs else None
            self._lengths[index] += len(event.get("text", ""))
            yield self._chunk(index, event.get("text", ""), None, listed)
        else:
            yield self._chunk(index, "", str(event.get("finish_reason") or "stop"), None)

    def _chunk(
        self, index: int, text: str, reason: str | None, logprobs: Mapping[str, object] | None
    ) -> dict[str, object]:
        choice = {"index": index, "text": text, "finish_reason": reason, "logprobs": logprobs}
        return {**self._base, "choices": [choice]}
