"""`luthier jobs` against a server on a port."""

import json

import pytest

from luthier.cli.main import main

from .conftest import TOKEN

ROW = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'


@pytest.fixture
def run(served, monkeypatch, capsys):
    address, _ = served
    monkeypatch.setenv("LUTHIER_URL", address)
    monkeypatch.setenv("LUTHIER_TOKEN", TOKEN)

    def command(*words, status=0):
        with pytest.raises(SystemExit) as ended:
            main(["jobs", *words])
        assert (ended.value.code or 0) == status
        return capsys.readouterr()

    return command


def test_a_job_from_its_config_to_its_end(run, tmp_path):
    assert "no jobs" in run("list").out
    (tmp_path / "rows.jsonl").write_text(ROW * 12)
    (tmp_path / "run.yaml").write_text("model: starter\ndataset: rows.jsonl\nlora_dim: 4\n")
    made = json.loads(run("submit", str(tmp_path / "run.yaml"), "--name", "mine", "--json").out)
    end = made["id"][-8:]
    assert made["state"] == "queued"
    assert "mine" in run("list").out
    shown = json.loads(run("show", end, "--json").out)
    assert shown["settings"]["lora_dim"] == 4
    assert shown["given"]["dataset"][0].startswith("file-")
    assert "is paused" in run("pause", end).out
    assert "is queued" in run("resume", end).out
    assert run("logs", end).out == ""
    assert "is cancelled" in run("cancel", end).out
    assert "is cancelled" in run("follow", end).out
    assert "is queued" in run("clone", end).out
    assert "cancelled" in run("pause", end, status=2).err
    listed = json.loads(run("list", "--state", "cancelled", "--json").out)
    assert [one["id"] for one in listed] == [made["id"]]


def test_what_cannot_be_found_is_said(run, monkeypatch):
    assert "0 job ids" in run("show", "zzzz", status=2).err
    assert "no job" in run("show", "ftjob-000000000000000000000000", status=2).err
    monkeypatch.setenv("LUTHIER_TOKEN", "another-token-that-is-wrong")
    assert "the token is wrong" in run("list", status=2).err
    monkeypatch.setenv("LUTHIER_URL", "http://127.0.0.1:1")
    assert "luthier serve" in run("list", status=2).err
