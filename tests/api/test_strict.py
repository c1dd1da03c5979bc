"""Bodies made to keep the parser busy: each takes one pass, and strangers may send little."""

import time

import pytest

from luthier.service.http.door.envelope import ApiError
from luthier.service.http.door.strict import decode

MANY = 100_000


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * 101 + b'\\"' * MANY, "nested more than 100"),
        (b"[" * 101 + b'"' + b"\\" * (2 * MANY + 1), "nested more than 100"),
        (b"[" * 101 + b'{"a":[' * MANY, "nested more than 100"),
        (b"{" + b",".join(b'"k%d":1' % n for n in [*range(50_000), 49_999]) + b"}", "given twice"),
    ],
)
def test_a_body_is_read_in_one_pass(body, said):
    began = time.perf_counter()
    with pytest.raises(ApiError, match=said):
        decode(body)
    assert time.perf_counter() - began < 5


def test_brackets_inside_texts_are_no_depth():
    assert decode(b'["' + b"[" * 500 + b'\\"[[", "\\\\"]') == ["[" * 500 + '"[[', "\\"]


def test_a_stranger_sends_little(stranger):
    body = b'{"token": "' + b"x" * 20_000 + b'"}'
    answer = stranger.post("/api/login", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413
