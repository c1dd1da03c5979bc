"""The judge is asked over HTTP as a careful client asks; a real server answers here."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from luthier.errors import JudgeError
from luthier.evaluation.judge import judge_pairs, question, verdict_of
from luthier.evaluation.metrics import RowResult
from luthier.recipes.after.ask_judge import KEY, MAX_ANSWER_BYTES, JudgeClient


class Judge:
    """Statuses and bodies in turn; what was asked."""

    def __init__(self):
        self.turns, self.asked = [], []
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                judge.asked.append((self.path, dict(self.headers), body))
                status, answer, headers = judge.turns.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                """Nothing of it on the terminal."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def says(self, text, status=200, **headers):
        answer = {"choices": [{"message": {"content": text}}]}
        self.turns.append((status, json.dumps(answer).encode(), headers))


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    made = Judge()
    yield made
    made.server.shutdown()
    made.server.server_close()


def client(judge):
    return JudgeClient(judge.address, "wise", pause_s=0.0)


def test_a_question_is_a_chat_completion_of_the_named_model(judge, monkeypatch):
    monkeypatch.setenv(KEY, "secret")
    judge.says("because\nsecond")
    assert client(judge).ask("which?") == "because\nsecond"
    path, headers, body = judge.asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["temperature"]) == ("wise", 0)
    assert body["messages"] == [{"role": "user", "content": "which?"}]


def test_a_busy_judge_is_asked_again_and_not_for_ever(judge):
    judge.says("", 503)
    judge.says("", 429)
    judge.says("tie")
    assert client(judge).ask("which?") == "tie"
    for _ in range(4):
        judge.says("", 503)
    with pytest.raises(JudgeError, match="gives no answer"):
        client(judge).ask("which?")
    assert len(judge.asked) == 7


def test_a_judge_that_says_no_is_not_asked_again(judge):
    judge.says("no such model", 404)
    with pytest.raises(JudgeError) as refused:
        client(judge).ask("which?")
    assert "status 404" in refused.value.why
    assert "no such model" in refused.value.why


def test_a_redirect_gets_neither_rows_nor_key(judge):
    judge.says("", 307, Location=f"{judge.address}/elsewhere")
    with pytest.raises(JudgeError) as refused:
        client(judge).ask("which?")
    assert "status 307" in refused.value.why
    assert len(judge.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b"[1]"])
def test_what_is_no_chat_completion_is_named(judge, body):
    judge.turns.append((200, body, {}))
    with pytest.raises(JudgeError, match="no chat completion"):
        client(judge).ask("which?")


def test_an_answer_without_end_is_not_read_to_its_end(judge):
    judge.turns.append((200, b" " * (MAX_ANSWER_BYTES + 2), {}))
    with pytest.raises(JudgeError) as refused:
        client(judge).ask("which?")
    assert "more than" in refused.value.why


@pytest.mark.parametrize("address", ["", "ftp://x/v1", "file:///etc/passwd", "http://u:p@x/v1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(JudgeError, match="no address of a judge"):
        JudgeClient(address, "wise")


def test_a_key_is_not_sent_in_the_clear(monkeypatch):
    monkeypatch.setenv(KEY, "secret")
    with pytest.raises(JudgeError, match="plain http"):
        JudgeClient("http://judge.example/v1", "wise")


def test_nobody_at_the_address_is_one_clear_error():
    with pytest.raises(JudgeError, match="gives no answer"):
        JudgeClient("http://127.0.0.1:9/v1", "wise", pause_s=0.0).ask("which?")


def rows(*answers):
    return [RowResult(f"row {n}", "q?", "right", answer=a) for n, a in enumerate(answers)]


def likes_long(asked):
    one, other = asked.split("===== first answer =====\n")[1].split("===== second answer =====\n")
    one, other = one.strip(), other.split("\n=====")[0].strip()
    return "first" if len(one) > len(other) else "second" if len(one) < len(other) else "tie"


def test_an_answer_wins_where_it_wins_in_both_orders():
    found = judge_pairs(
        rows("a", "bbbb", "cc", "dd", None), rows("aaa", "b", "cc", "ee", "f"), likes_long
    )
    assert found.sides == ("model", "base", "tie", "tie")
    assert (found.swapped, found.unclear) == (0, 0)
    assert found.difference.value == 0.0


def test_a_judge_of_one_mind_is_believed_when_there_are_rows_enough():
    wins = judge_pairs(rows(*["a"] * 12), rows(*["aaa"] * 12), likes_long)
    assert wins.word == "better"
    assert judge_pairs(rows(*["aaa"] * 12), rows(*["a"] * 12), likes_long).word == "worse"
    assert judge_pairs(rows("a"), rows("aaa"), likes_long).word == "no difference shown"


def test_a_judge_that_says_nothing_is_counted():
    found = judge_pairs(rows("a"), rows("b"), lambda _: "I cannot say")
    assert (found.sides, found.unclear) == (("tie",), 2)


def test_the_last_word_of_a_judge_counts():
    assert verdict_of("The first is long.\n**Second**") == "second"
    assert verdict_of("firstly, seconds") is None


def test_a_long_text_is_cut_and_the_judge_told_so():
    asked = question(RowResult("row 1", "q" * 20_000, "a"), "one {x}", "other")
    assert len(asked) < 10_000
    assert "[cut here, for length]" in asked
    assert "one {x}" in asked
