"""What the processes of the service say to each other, one JSON object a line."""

from collections.abc import Mapping
from typing import Literal, NotRequired, Required, TypedDict


class TokenLogprob(TypedDict):
    """A token of an answer with its log-probability (nats; -9999 for an impossible one).

    Attributes:
        bytes: UTF-8 of the text; None for a piece of a character.
        top: The likeliest tokens in its place, best first.
    """

    token: str
    logprob: float
    bytes: list[int] | None
    top: NotRequired[list["TokenLogprob"]]


class AnswerEvent(TypedDict, total=False):
    """A line of the process that answers.

    `delta` has `index` and `text`, and `logprobs` where they are wanted; `end` has `index` and
    `finish_reason`; `usage`, the last of a request, has the counts; `loading` has the model's name;
    `error` is a refusal of ours, `fault` a failure; `ready` and `refused` come before all requests.

    Attributes:
        id: Of the request; the server takes it off.
        index: Which of the `n` answers.
    """

    type: Required[
        Literal[
            "ready",
            "refused",
            "loading",
            "delta",
            "end",
            "usage",
            "error",
            "fault",
            "cancelled",
            "ended",
        ]
    ]
    id: str
    index: int
    text: str
    logprobs: list[TokenLogprob]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens_per_s: float
    model: str
    error: Mapping[str, str]
    fault: str


class HelperAnswer(TypedDict, total=False):
    """The line of a helper: one of these.

    Attributes:
        result: Plain values, as the task gives them.
        error: One of ours, to be raised by the server.
        fault: What broke; `memory` where there was too little.
    """

    result: Mapping[str, object]
    error: Mapping[str, str]
    fault: str


class WarmRequest(TypedDict):
    """An attempt at a job, to be forked.

    Attributes:
        run: The run directory.
        log: The file for what it prints.
    """

    job: str
    attempt: int
    run: str
    log: str
    environment: dict[str, str]


class WarmMessage(TypedDict, total=False):
    """What the warm process says: `ready`, `started` with job and attempt, `ended` with a status.

    The three values are process ids; `status` is that of `os.waitstatus_to_exitcode`.
    """

    ready: int
    started: int
    job: str
    attempt: int
    ended: int
    status: int
