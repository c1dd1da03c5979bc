"""Requests that cost the server more than their sender, and values that stay with it."""

import hashlib
import time

import pytest

from luthier.limits import MOST_HEADERS, SETTING_TEXT_BYTES
from luthier.service.http.door.limits import Limits

from .conftest import client_of, on_a_port
from .test_bad_requests import JOBS, ROW, queued, raw, refused, request_of, upload

LONG = "Be kind. " * (SETTING_TEXT_BYTES // 9 + 1)
SOON = "Be brief. " * 600


def test_more_headers_than_anybody_sends_are_refused_before_they_are_looked_at(stranger):
    few = {f"x-{n}": "1" for n in range(MOST_HEADERS - 20)}
    assert stranger.get("/healthz", headers=few).status_code == 200
    many = {f"x-{n}": "1" for n in range(5_271)}
    started = time.process_time()
    answer = stranger.get("/v1/models", headers=many)
    assert refused(answer, 431, "too_many_headers")["why"]
    assert answer.headers["connection"] == "close"
    assert time.process_time() - started < 0.5  # of client and server; it was 0.7 of the server


def test_many_headers_on_a_real_connection_are_answered_and_it_is_closed(tmp_path):
    with on_a_port(tmp_path / "home") as (address, _):
        lines = [f"a{n}:" for n in range(3_000)]
        answer = raw(address, request_of(address, "GET", "/v1/models", *lines))
        assert answer.startswith(b"HTTP/1.1 431")


def test_the_rate_is_counted_before_anything_that_has_a_size(start):
    with client_of(start(limits=Limits(request_burst=3, requests_per_s=0.001)), token=None) as one:
        many = {f"x-{n}": "1" for n in range(1_000)}
        found = [one.get("/v1/models", headers=many).status_code for _ in range(5)]
    assert found == [431, 431, 431, 429, 429]


def test_a_text_among_the_settings_is_bounded(client):
    file = upload(client).json()["id"]
    body = {"model": "starter", "training_file": file, "luthier": {"system_prompt": LONG}}
    error = refused(client.post(JOBS, json=body))
    assert f"{len(LONG):,} characters" in error["message"]
    assert len(error["message"]) < 300
    settings = {"model": "starter", "dataset": file, "system_prompt": LONG}
    refused(client.post("/api/jobs", json={"settings": settings}))
    refused(client.post("/api/plan", json={"settings": settings}))
    wide = "\U0001f600" * (SETTING_TEXT_BYTES // 4 + 1)  # bytes count, not characters
    refused(client.post("/api/jobs", json={"settings": {**settings, "system_prompt": wide}}))
    id = queued(client)
    cloned = client.post(f"/api/jobs/{id}/clone", json={"settings": {"system_prompt": LONG}})
    refused(cloned)


@pytest.mark.parametrize("more", [{"output_dir": "/etc/x"}, {"resume": True}])
def test_a_plan_looks_into_no_run_directory_of_a_request(client, more):
    file = upload(client).json()["id"]
    settings = {"model": "starter", "dataset": file, **more}
    assert (
        next(iter(more))
        in refused(client.post("/api/plan", json={"settings": settings}))["message"]
    )
    settings[next(iter(more))] = None if "output_dir" in more else False
    assert client.post("/api/plan", json={"settings": settings}).status_code == 200


def test_a_long_text_is_whole_with_its_job_and_short_in_a_list(client):
    id = queued(client, luthier={"system_prompt": SOON})
    assert client.get(f"{JOBS}/{id}").json()["luthier"]["settings"]["system_prompt"] == SOON
    listed = client.get(JOBS).json()["data"][0]["luthier"]["settings"]["system_prompt"]
    assert listed.endswith(f"({len(SOON):,} characters)")
    assert SOON.startswith(listed.partition("...")[0])
    assert len(client.get("/api/jobs").content) < len(SOON)


def begun(client, size):
    body = {"filename": "rows.jsonl", "purpose": "fine-tune", "bytes": size}
    made = client.post("/v1/uploads", json={**body, "mime_type": "application/jsonl"})
    assert made.status_code == 200, made.text
    return made.json()["id"]


def part(client, id, content):
    made = client.post(f"/v1/uploads/{id}/parts", files={"data": content})
    assert made.status_code == 200, made.text
    return made.json()["id"]


@pytest.mark.parametrize("which", ["missing", "twice", "of another", "unknown", "none", "path"])
def test_parts_that_do_not_make_the_file_that_was_promised(client, which):
    id, other = begun(client, 2 * len(ROW)), begun(client, len(ROW))
    first, second, foreign = part(client, id, ROW), part(client, id, ROW), part(client, other, ROW)
    asked = {
        "missing": [first],
        "twice": [first, second, second],
        "of another": [first, foreign],
        "unknown": [first, "part_0"],
        "none": [],
        "path": [first, "../../token"],
    }[which]
    before = client.get("/v1/files").json()["data"]
    refused(client.post(f"/v1/uploads/{id}/complete", json={"part_ids": asked}))
    assert client.get("/v1/files").json()["data"] == before


def test_parts_are_put_together_in_the_order_that_is_named(client):
    pieces = [b'{"text": "one"}\n', b'{"text": "two"}\n']
    id = begun(client, sum(map(len, pieces)))
    ids = [part(client, id, piece) for piece in pieces]
    whole = pieces[1] + pieces[0]
    asked = {"part_ids": ids[::-1], "md5": hashlib.md5(whole).hexdigest()}
    done = client.post(f"/v1/uploads/{id}/complete", json=asked).json()
    assert client.get(f"/v1/files/{done['file']['id']}/content").content == whole


def test_a_part_beyond_the_promised_size_or_with_a_wrong_sum_makes_no_file(client):
    id = begun(client, len(ROW))
    refused(client.post(f"/v1/uploads/{id}/parts", files={"data": ROW * 2}))
    fitting = part(client, id, ROW)
    wrong = {"part_ids": [fitting], "md5": "0" * 32}
    refused(client.post(f"/v1/uploads/{id}/complete", json=wrong))
    assert client.get("/v1/files").json()["data"] == []
