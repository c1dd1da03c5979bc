"""The HTTP rows of the table of bad inputs, H1 to H28; each name begins with its row."""

import asyncio
import gzip
import json
import logging
import socket
import threading
import time
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from luthier.service.http.door.limits import Limits
from luthier.service.http.door.server import PatientProtocol
from luthier.service.http.page.logs import read_logs, safe_text

from .conftest import BASE, TOKEN, client_of, on_a_port

JSON = {"content-type": "application/json"}
JOBS = "/v1/fine_tuning/jobs"
ROW = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'


def refused(answer, status=400, code=None):
    assert answer.status_code == status, answer.text[:300]
    error = answer.json()["error"]
    assert error["message"]
    assert code is None or error["code"] == code
    return error


def upload(client, name="rows.jsonl", content=ROW * 12):
    return client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)})


def queued(client, **more):
    file = upload(client).json()["id"]
    answer = client.post(JOBS, json={"model": "starter", "training_file": file, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff\xfe{}", b'"text"', b"{'a': 1}"])
@pytest.mark.parametrize("path", [JOBS, "/v1/chat/completions", "/api/jobs", "/api/login"])
def test_h1_a_body_that_is_no_object(client, path, body):
    refused(client.post(path, content=body, headers=JSON))


def test_h2_a_body_beyond_the_limit(start):
    with client_of(start(limits=Limits(json_bytes=1000, upload_bytes=10_000))) as client:
        refused(client.post(JOBS, content=b" " * 1001, headers=JSON), 413, "too_large")
        endless = (b" " * 100 for _ in range(10**6))
        refused(client.post(JOBS, content=endless, headers=JSON), 413)
        refused(upload(client, content=b"x" * 20_000), 413)
        pieces = (b"x" * 1000 for _ in range(10**6))
        form = {"content-type": "multipart/form-data; boundary=b"}
        refused(client.post("/v1/files", content=pieces, headers=form), 413)
        assert list(client.app.parts.files.folder.iterdir()) == []
        lying = {**JSON, "content-length": "99999999999999999999999"}
        refused(client.post(JOBS, content=b"{}", headers=lying))


def raw(address, data, *, wait_s=5.0):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait_s) as connection:
        connection.sendall(data)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def test_h3_slow_clients_are_cut_off_and_others_are_served(tmp_path, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "header_s", 1.0)
    with on_a_port(tmp_path / "home", limits=Limits(body_s=1.0)) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        slow = [socket.create_connection((host, int(port))) for _ in range(200)]
        for number, one in enumerate(slow):
            one.sendall(b"GET / HTTP/1.1\r\nHo" if number % 2 else b"G")
        started = time.monotonic()
        assert b"200 OK" in raw(address, request_of(address, "GET", "/healthz"))
        assert time.monotonic() - started < 1.0
        body = b"POST /api/login HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
        body += b"Content-Length: 100\r\n\r\n{"
        assert b" 408 " in raw(address, body % address.removeprefix("http://").encode())
        for one in slow:
            one.settimeout(5)
            try:
                assert one.recv(1) == b""
            except ConnectionResetError:
                continue
            finally:
                one.close()


def request_of(address, method, path, *headers):
    host = address.removeprefix("http://")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_h4_a_packed_body(client):
    bomb = gzip.compress(b" " * 10**7)
    headers = {**JSON, "content-encoding": "gzip"}
    refused(client.post(JOBS, content=bomb, headers=headers), 415, "unsupported_encoding")


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", b"{}", 415),
        ("multipart/form-data", b"x", 415),
        ("multipart/form-data; boundary=", b"x", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n", 400),
        ("multipart/form-data; boundary=b", b"no boundary at all", 400),
        ("multipart/form-data; boundary=b", b"--b\r\nno colon\r\n\r\nx\r\n--b--\r\n", 400),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx\r\n' * 10**4 + b"--b--\r\n",
            400,
        ),
        ("application/json", b"{}", 415),
    ],
)
def test_h5_forms_that_are_none(client, kind, body, status):
    refused(client.post("/v1/files", content=body, headers={"content-type": kind}), status)
    assert list(client.app.parts.files.folder.iterdir()) == []


NAMES = ["../../x", "/etc/x", "C:\\x", "a\x00b", "x" * 4096, "CON", ".", "..", "a\u202eb.jsonl", ""]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_h6_a_name_is_only_a_label(client, name):
    form = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.replace("\\", "\\\\").encode()
        + b'"\r\n\r\n{}\n\r\n--b--\r\n'
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/files", content=form, headers=headers)
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        shown = answer.json()["filename"]
        assert 1 <= len(shown) <= 200
        assert not set(shown) & set("/\\\x00\u202e")
    folder = client.app.parts.files.folder
    assert all(path.name.startswith("file-") for path in folder.iterdir())


def test_h7_an_upload_that_is_cut_leaves_nothing(served):
    address, app = served
    host = address.removeprefix("http://")
    name, port = host.split(":")
    with socket.create_connection((name, int(port))) as connection:
        connection.sendall(
            f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
            + b"x" * 50_000
        )
        time.sleep(0.3)
    deadline = time.monotonic() + 5
    while app.parts.uploading.inside and time.monotonic() < deadline:
        time.sleep(0.05)
    assert app.parts.uploading.inside == 0
    assert list(app.parts.files.folder.iterdir()) == []
    assert app.parts.files.list()[0] == []


IDS = ["unknown", "ftjob-000000000000000000000000", "..%2F1", "1" + "0" * 100, "' OR 1=1 --",
       "%2e%2e%2f1", "%252e%252e%252f", "ftjob-%00", "ftjob-é"]  # fmt: skip


@pytest.mark.parametrize("id", IDS)
def test_h8_ids_that_name_nothing(client, id):
    shown = id if "%" in id else quote(id)
    for path in (f"{JOBS}/{shown}", f"/api/jobs/{shown}", f"/v1/files/{shown}"):
        answer = client.get(path)
        assert answer.status_code in (
            404,
            405,
        )  # what is decoded to a deeper path may only be posted to
        assert "sqlite" not in json.dumps(answer.json()).lower()


def test_h9_unknown_fields_are_named(client):
    file = upload(client).json()["id"]
    body = {"model": "starter", "training_file": file, "surprise": 1, "another": 2}
    error = refused(client.post(JOBS, json=body))
    assert error["param"] == "surprise"
    assert "another" in error["why"]
    refused(
        client.post("/api/jobs", json={"settings": {"model": "starter", "dataset": file, "x": 1}})
    )


def test_h10_one_key_is_one_job(client):
    file = upload(client).json()["id"]
    body = {"model": "starter", "training_file": file}
    found = []

    def ask():
        answer = client.post(JOBS, json=body, headers={"idempotency-key": "k"})
        found.append(answer.json()["id"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    refused(client.post(JOBS, json={**body, "seed": 5}, headers={"idempotency-key": "k"}))


def test_h11_asking_twice_and_for_what_cannot_be(client):
    id = queued(client)
    refused(client.delete(f"/api/jobs/{id}"))
    refused(client.post(f"{JOBS}/{id}/resume"))
    for _ in range(2):
        answer = client.post(f"{JOBS}/{id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    answer = client.post(f"{JOBS}/{id}/pause")
    assert "cancelled" in refused(answer)["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert client.delete(f"/api/jobs/{id}").status_code == 200
    refused(client.delete(f"/api/jobs/{id}"), 404)


def test_h12_files_of_a_job_that_has_none(client):
    id = queued(client)
    refused(client.get(f"/api/jobs/{id}/files/result.zip"), 400, "no_result")
    for path in ("../../../etc/passwd", "result/../../x", "%2e%2e/%2e%2e/token", "/etc/passwd",
                 "..\\..\\token", "events.jsonl%00"):  # fmt: skip
        answer = client.get(f"/api/jobs/{id}/files/{path}")
        assert answer.status_code in (404, 405)  # the client itself shortens some of them


def test_h13_ranges(client):
    id = upload(client, content=b"0123456789").json()["id"]
    path = f"/v1/files/{id}/content"
    assert client.get(path, headers={"range": "bytes=2-4"}).content == b"234"
    assert client.get(path, headers={"range": "bytes=50-60"}).status_code == 416
    for odd in ("bytes=4-2", "bytes=x", "bytes=" + ",".join(["0-0"] * 2000)):
        answer = client.get(path, headers={"range": odd})
        assert answer.status_code in (200, 206, 400, 416)
        assert len(answer.content) < 10_000


@pytest.mark.parametrize("last", ["-1", "9" * 100, "text", "ftevent-x-e1"])
def test_h14_a_stream_begins_at_a_defined_point(client, last):
    id = queued(client)
    client.post(f"{JOBS}/{id}/cancel")
    answer = client.get(f"/api/jobs/{id}/stream", headers={"last-event-id": last})
    assert answer.text.startswith("event: state\n")
    assert "\nid:" not in answer.text
    assert '"cancelled"' in answer.text


def test_h15_streams_are_limited_and_the_rest_is_served(tmp_path):
    with on_a_port(tmp_path / "home", limits=Limits(streams=20)) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        asked = request_of(address, "GET", "/api/stream", f"Authorization: Bearer {TOKEN}")
        streams = [socket.create_connection((host, int(port)), timeout=5) for _ in range(60)]
        for one in streams:
            one.sendall(asked)
        heads = [one.recv(15) for one in streams]
        assert sum(b" 200" in head for head in heads) == 20
        assert sum(b" 503" in head for head in heads) == 40
        assert b"200 OK" in raw(address, request_of(address, "GET", "/healthz"))
        for one in streams:
            one.close()


@pytest.mark.parametrize("query", ["limit=-1", "limit=0", "limit=1000000000", "limit=x", "after=forged",
                                   "after=" + "x" * 5000])  # fmt: skip
@pytest.mark.parametrize("path", [JOBS, "/v1/files", "/api/jobs"])
def test_h16_pages_that_are_none(client, path, query):
    answer = client.get(f"{path}?{query}")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]


# H17, H18 and H19 are in test_door.py: Host, Origin, simple requests, tokens.


def test_h18_a_form_of_another_site(stranger):
    stranger.post("/api/login", json={"token": TOKEN})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"content-type": kind, "origin": "http://evil.example"}
        assert stranger.post("/api/jobs", content=b"{}", headers=headers).status_code == 403
    plain = stranger.post("/api/jobs", content=b"{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 403


def test_h19_the_token_is_in_no_log(client, caplog):
    caplog.set_level(logging.INFO)
    client.get(f"/v1/files?token={TOKEN}")
    client.get("/v1/%0Aforged%1b[31m")
    text = "\n".join(
        record.getMessage() for record in caplog.records if record.name == "luthier.access"
    )
    assert "/v1/files 200" in text
    assert TOKEN not in text
    assert "\x1b" not in text
    assert "\nforged" not in text


def test_h20_markup_comes_back_as_text(client):
    nasty = "<script>alert(1)</script>"
    id = queued(client, luthier={"name": nasty}, metadata={"m": nasty})
    answer = client.get(f"/api/jobs/{id}")
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.json()["job"]["metadata"] == {"m": nasty}


def test_h21_logs_are_safe_to_show(tmp_path):
    nasty = "\x1b[31mred\x1b[0m \x07bell \x1b]0;title\x07 a\u202eb\rlast \u200btoken=abcdef123456\n"
    (tmp_path / "stderr.log").write_text(nasty + "x" * 10_000_000 + "\n")
    shown = read_logs(tmp_path, after=0, limit=1 << 20)
    assert shown["size"] > 10_000_000
    first = shown["text"].split("\n")[0]
    assert first == "last token=[hidden]"
    assert max(map(len, shown["text"].split("\n"))) < 5000
    assert safe_text("10%\r50%\r100%\r\ndone") == "100%\ndone"
    assert "hf_" not in safe_text("HF_TOKEN hf_abcdefghijkl sk-abcdefghijkl")
    whole, after = "", 0
    (tmp_path / "stderr.log").write_text("".join(f"line {n}\n" for n in range(1000)))
    while (part := read_logs(tmp_path, after=after, limit=100))["text"]:
        whole, after = whole + part["text"], part["next"]
    assert whole.splitlines() == [f"line {n}" for n in range(1000)]


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://169.254.169.254/latest/", "file:///etc/passwd",
                                 "http://[::ffff:127.0.0.1]/", "https://localtest.me/"])  # fmt: skip
def test_h22_nothing_is_fetched(client, url):
    part = {"type": "image_url", "image_url": {"url": url}}
    body = {"model": "starter", "messages": [{"role": "user", "content": [part]}]}
    refused(client.post("/v1/chat/completions", json=body))
    file = upload(client).json()["id"]
    for settings in ({"model": url, "dataset": file}, {"model": "starter", "dataset": url}):
        refused(client.post("/api/jobs", json={"settings": settings}))


@pytest.mark.parametrize("method", ["TRACE", "PUT", "HEAD", "OPTIONS", "PATCH", "NONSENSE"])
def test_h23_methods_there_are_not(client, method):
    answer = client.request(method, "/v1/files")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"
    assert client.request(method if method != "HEAD" else "PUT", "/").status_code == 405


def test_h24_numbers_that_are_none_become_null(client):
    id = queued(client)
    run = client.app.parts.jobs.get(id).run_path
    run.mkdir(parents=True)
    line = {
        "type": "step",
        "step": 1,
        "loss": None,
        "loss_text": "nan",
        "grad_norm": 1.0,
        "time": 1.0,
    }
    nan = '{"type": "step", "step": 2, "loss": NaN, "grad_norm": Infinity, "time": 2.0}'
    (run / "events.jsonl").write_text(json.dumps(line) + "\n" + nan + "\n")
    answer = client.get(f"/api/jobs/{id}/metrics")
    shown = json.loads(answer.content, parse_constant=lambda word: pytest.fail(word))
    assert shown["series"]["grad_norm"] == [1.0, None]
    events = client.get(f"{JOBS}/{id}/events")
    json.loads(events.content, parse_constant=lambda word: pytest.fail(word))


def test_h25_a_flood_is_told_to_wait(start):
    with client_of(start(limits=Limits(requests_per_s=5, request_burst=20))) as client:
        answers = [client.get("/healthz") for _ in range(60)]
    counts = [answer.status_code for answer in answers]
    assert counts[:20] == [200] * 20
    assert counts.count(429) >= 30
    told = next(answer for answer in answers if answer.status_code == 429)
    assert int(told.headers["retry-after"]) >= 1


def test_h26_a_server_that_closes_says_so(client):
    client.app.close()
    answer = client.get("/v1/files")
    refused(answer, 503, "closing")
    assert answer.headers["retry-after"] == "3"


@pytest.mark.parametrize("headers", [
    ("Content-Length: 2", "Content-Length: 3"),
    ("Content-Length: 2", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    ("Content-Length: -1",),
    ("Content-Length: +2",),
    ("Transfer-Encoding: chunked, chunked",),
])  # fmt: skip
def test_h27_two_ways_to_say_where_a_body_ends(served, headers):
    address, _ = served
    smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    host = address.removeprefix("http://")
    lines = [
        "POST /api/login HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        *headers,
    ]
    answer = raw(address, ("\r\n".join([*lines, "", ""]) + "{}" + smuggled).encode())
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("body", [
    b'{"model": "a", "model": "b"}',
    b"[" * 10**5 + b"]" * 10**5,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b"{" + b",".join(b'"%d":1' % n for n in range(10**5 + 1)) + b"}",
    b'{"model": "\\ud800"}',
    b'{"model": NaN}',
    b'{"model": 1e999}',
    b'{"model": ' + b"9" * 5000 + b"}",
    b"\xef\xbb\xbf{}",
], ids=lambda body: str(body[:20]))  # fmt: skip
def test_h28_json_beyond_its_limits(client, body):
    refused(client.post(JOBS, content=body, headers=JSON), 400)


def test_a_client_that_does_not_read_holds_up_nobody(tmp_path):
    limits = Limits(streams=200, stalled_client_s=2.0)
    with on_a_port(tmp_path / "home", limits=limits) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        asked = request_of(address, "GET", "/api/stream", f"Authorization: Bearer {TOKEN}")
        streams = []
        for _ in range(60):
            streams.append(socket.create_connection((host, int(port)), timeout=5))
            streams[-1].sendall(asked)
        took = []
        listed = request_of(address, "GET", "/api/jobs", f"Authorization: Bearer {TOKEN}")
        for _ in range(20):
            started = time.monotonic()
            assert b"200 OK" in raw(address, listed)
            took.append(time.monotonic() - started)
        assert sorted(took)[15] < 0.5
        for one in streams:
            one.close()


def test_the_door_is_before_everything(start):
    app = start()
    sent = []

    async def ask():
        scope = {"type": "websocket", "path": "/api/stream", "headers": []}

        async def send(message):
            sent.append(message)

        await app(scope, None, send)

    asyncio.run(ask())
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert TestClient(app, base_url=BASE).get("/api/jobs").status_code == 401
