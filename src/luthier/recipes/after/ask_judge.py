"""Asking a judge over HTTP: one request at a time, each bounded in time and size, and few tries.

The key goes to the address that was given and to no other: redirects are not followed, and over plain
http it is sent to this machine only.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from luthier.bounded import decode
from luthier.errors import JudgeError

KEY = "LUTHIER_JUDGE_KEY"
TIMEOUT_S, TRIES, LONGEST_WAIT_S = 120.0, 4, 30.0
MAX_ANSWER_BYTES = 4 * 2**20
MAX_TOKENS = 1024
"""Of one answer: a judge may give reasons before its word."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A judge is at its address; what it sends on to gets neither rows nor key."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class JudgeClient:
    """A model at an OpenAI-compatible address.

    Args:
        address: With the version: `https://HOST/v1`.
        model: Its name there.
        pause_s: Before the second try; doubled for each later one.

    Raises:
        JudgeError: It is no http(s) address.
    """

    def __init__(self, address: str, model: str, *, pause_s: float = 1.0) -> None:
        self.address, self.model, self.pause_s = address.rstrip("/"), model, pause_s
        parts = urllib.parse.urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise JudgeError(
                f"{address[:200]!r} is no address of a judge",
                why="it is http:// or https:// with a host, without a user name",
                fix="--judge http://127.0.0.1:8000/v1",
            )
        key = os.environ.get(KEY, "")
        if key and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise JudgeError(
                f"{KEY} is set, and {address[:200]} is plain http",
                why="a key is sent over https, or to this machine",
                fix=f"use https, or unset {KEY}",
            )
        self._headers = {"Content-Type": "application/json", "User-Agent": "luthier"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._opener = urllib.request.build_opener(_NoRedirects())

    def ask(self, question: str) -> str:
        """The text of its answer.

        Raises:
            JudgeError: It says no, cannot be reached, or answers with something else.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        }
        raw = self._send(json.dumps(body).encode())
        try:
            found: Any = decode(raw)
            text = found["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise JudgeError(
                f"{self.address} answers with something that is no chat completion",
                why=str(error)[:200] or type(error).__name__,
                fix="check the address: it ends with the version, such as /v1",
            ) from error
        return text if isinstance(text, str) else ""

    def _send(self, body: bytes) -> bytes:
        url, wait_s, said = f"{self.address}/chat/completions", self.pause_s, ""
        for number in range(TRIES):
            if number:
                time.sleep(min(wait_s, LONGEST_WAIT_S))
                wait_s *= 2
            request = urllib.request.Request(url, data=body, headers=self._headers)
            try:
                with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                    raw: bytes = answer.read(MAX_ANSWER_BYTES + 1)
                if len(raw) <= MAX_ANSWER_BYTES:
                    return raw
                said = f"an answer of more than {MAX_ANSWER_BYTES:,} bytes"
                break
            except urllib.error.HTTPError as error:
                with error:
                    said = f"status {error.code}: {error.read(300).decode('utf-8', 'replace')}"
                if error.code not in (408, 429) and error.code < 500:
                    break
            except (OSError, http.client.HTTPException) as error:
                said = str(error) or type(error).__name__
        raise JudgeError(
            f"the judge at {self.address} gives no answer",
            why=said,
            fix=f"check address, --judge-model {self.model} and {KEY}",
        )
