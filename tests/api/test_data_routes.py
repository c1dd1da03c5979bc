"""What is asked before a job: helpers answer in processes of their own."""

import shlex
from pathlib import Path

from .conftest import STARTER

BROKEN = b'{"messages": [{"role": "user", "content": "no answer"}]}\n'


def test_formats_plan_rows_and_a_check_of_a_broken_file(client):
    formats = client.get("/api/formats").json()["formats"]
    assert "messages" in str(formats)
    good = b"".join((STARTER / "sft_train.jsonl").read_bytes().splitlines(keepends=True)[:20])
    files = {"file": ("mine.jsonl", good + BROKEN)}
    id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()["id"]

    report = client.post(f"/api/files/{id}/check", json={"model": "starter"})
    assert report.status_code == 200, report.text
    assert report.json()["rows"] == 21
    assert "mine.jsonl" in report.text
    assert str(client.app.parts.home) not in report.text

    rows = client.get(f"/api/files/{id}/rows?model=starter&from=1&count=3")
    assert rows.status_code == 200, rows.text

    asked = {"settings": {"model": "starter", "dataset": [id], "lora_dim": 4}}
    refused = client.post("/api/plan", json=asked)
    assert refused.json()["error"]["code"] == "E204"
    assert f"{id} line 21" in refused.text
    assert str(client.app.parts.home) not in refused.text
    files = {"file": ("good.jsonl", good)}
    id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()["id"]
    plan = client.post(
        "/api/plan", json={"settings": {"model": "starter", "dataset": [id], "lora_dim": 4}}
    )
    assert plan.status_code == 200, plan.text
    assert plan.json()["peak_bytes"] > 0
    commands = plan.json()["commands"]
    words = shlex.split(
        commands["cli"]
    )  # a path of this machine: an id means nothing to a terminal
    assert Path(words[words.index("--dataset") + 1]).read_bytes() == good
    assert id in commands["curl"]
    outside = {"settings": {"model": "starter", "dataset": ["/etc/passwd"]}}
    assert client.post("/api/plan", json=outside).status_code == 400


MINE = b'{"ask": "2+2?", "reply": "4"}\n{"ask": "3+3?", "reply": null}\n{"ask": "1+1?", "reply": "2"}\n'


def uploaded(client, name, body):
    files = {"file": (name, body)}
    return client.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()["id"]


def test_how_columns_are_read_is_kept_with_a_file_and_used_by_all(client):
    id = uploaded(client, "mine.jsonl", MINE)
    raw = client.get(f"/api/files/{id}/raw?count=2").json()
    assert raw["columns"] == ["ask", "reply"]
    assert raw["rows"][0] == {"line": 1, "fields": {"ask": "2+2?", "reply": "4"}}
    assert (raw["known"], raw["kept"]) == (False, None)
    assert raw["guess"] == {"prompt": "ask", "completion": "reply"}
    tried = client.get(
        f"/api/files/{id}/rows", params={"columns": '{"prompt": "Q: {ask}", "completion": "reply"}'}
    )
    assert "Q: 2+2?" in tried.text
    assert client.get(f"/api/files/{id}/rows", params={"columns": "{"}).status_code == 400

    columns = {"prompt": "ask", "completion": "reply"}
    kept = client.put(f"/api/files/{id}/columns", json={"columns": columns})
    assert kept.json()["luthier"]["columns"] == columns
    report = client.post(f"/api/files/{id}/check", json={"model": "starter"}).json()
    assert (report["rows"], report["used"]) == (3, 2)
    made = client.post(f"/api/files/{id}/fix").json()
    fixed = client.get(f"/v1/files/{made['file']['id']}/content").content
    assert fixed.splitlines()[0] == b'{"prompt": "2+2?", "completion": "4"}'

    other = uploaded(client, "more.jsonl", MINE.replace(b"ask", b"tanya"))
    asked = {"model": "starter", "dataset": [id]}
    job = client.post("/api/jobs", json={"settings": asked}).json()
    settings = client.get(f"/api/jobs/{job['id']}").json()["settings"]
    assert settings["columns"] == columns
    client.put(f"/api/files/{other}/columns", json={"columns": {"text": "tanya"}})
    both = client.post("/api/jobs", json={"settings": {**asked, "dataset": [id, other]}})
    assert both.status_code == 400
    assert "read with different columns" in both.text
    assert client.put(f"/api/files/{id}/columns", json={"columns": None}).status_code == 200
    assert client.get(f"/api/files/{id}/raw").json()["kept"] is None
