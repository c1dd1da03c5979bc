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
