"""Requests at odd moments: what is being worked on, what is gone, names that are also arguments."""

import asyncio
import socket
import threading

import pytest
from starlette.requests import Request

from luthier.errors import SettingsError
from luthier.service.http.door.envelope import ApiError
from luthier.service.http.feeds import job_feed
from luthier.service.http.openai.v1_chat import _whole
from luthier.service.http.serving import Options, _listen


def queued(client):
    row = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
    files = {"file": ("rows.jsonl", row)}
    id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()["id"]
    body = {"settings": {"model": "starter", "dataset": [id]}}
    return client.post("/api/jobs", json=body).json()["id"]


@pytest.mark.parametrize("name", ["id", "self", "changes"])
def test_a_clone_with_a_setting_that_is_none_is_refused(client, name):
    answer = client.post(f"/api/jobs/{queued(client)}/clone", json={"settings": {name: "x"}})
    assert answer.status_code == 400
    assert f"{name} is not a setting" in answer.text


def test_a_name_can_be_taken_away(client):
    path = f"/api/jobs/{queued(client)}"
    assert client.patch(path, json={"name": "first"}).json()["name"] == "first"
    assert client.patch(path, json={"name": ""}).json()["name"] == ""


def test_the_server_answers_while_an_upload_is_put_together(client):
    body = {"bytes": 4, "filename": "a", "mime_type": "text/plain", "purpose": "fine-tune"}
    id = client.post("/v1/uploads", json=body).json()["id"]
    answers = {}

    def add():
        answers["part"] = client.post(f"/v1/uploads/{id}/parts", files={"data": b"abcd"})

    def look():
        answers["health"] = client.get("/healthz")

    with client.app.routes.state.uploads.pending(id):
        threads = [threading.Thread(target=one, daemon=True) for one in (add, look)]
        threads[0].start()
        threads[0].join(0.3)
        threads[1].start()
        threads[1].join(5)
        assert answers["health"].status_code == 200
        assert "part" not in answers
    threads[0].join(5)
    assert answers["part"].status_code == 200


def test_the_stream_of_a_job_that_was_deleted_ends(client):
    id = queued(client)
    feed = job_feed(client.app.parts, id)
    assert feed.snapshot()[0][0] == "state"
    client.post(f"/api/jobs/{id}/cancel")
    client.delete(f"/api/jobs/{id}")
    assert feed.poll() == [("", None)]


def test_the_model_stops_when_nobody_waits_for_its_answer(app):
    ended = threading.Event()

    class Endless:
        def complete(self, request):
            try:
                while True:
                    yield {"type": "delta", "index": 0, "text": "and "}
            finally:
                ended.set()

    async def gone():
        return {"type": "http.disconnect"}

    app.parts.chats.close()
    app.parts.chats = Endless()
    request = Request({"type": "http", "app": app.routes}, gone)
    with pytest.raises(ApiError, match="cut off"):
        asyncio.run(asyncio.wait_for(_whole(request, {}), 5))
    assert ended.is_set()
    assert app.parts.generating.inside == 0


def test_a_repair_that_was_killed_does_not_keep_the_next_from_its_file(client):
    row = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
    files = {"file": ("rows.jsonl", row * 2)}
    id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()["id"]
    for left in (f".fix-{id}.jsonl", f".fix-{id}.jsonl.fixes.jsonl"):
        (client.app.parts.files.folder / left).write_text("")
    fixed = client.post(f"/api/files/{id}/fix")
    assert fixed.status_code == 200, fixed.text
    assert fixed.json()["file"]["filename"] == "rows-fixed.jsonl"
    assert not any((client.app.parts.home / "service" / "uploads").iterdir())


def test_a_unix_socket_takes_no_other_files_place(tmp_path, luthier_home):
    precious = tmp_path / "rows.jsonl"
    precious.write_text("mine")
    live = tmp_path / "live.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(live))
        listening.listen()
        for path in (precious, live):
            with pytest.raises(SettingsError, match="cannot be listened on"):
                listen(path)
        assert live.is_socket()
    assert precious.read_text() == "mine"
    listen(live)  # of a server that is no more


def listen(path):
    import contextlib

    with contextlib.ExitStack() as stack:
        _listen(Options(unix=path), stack)
