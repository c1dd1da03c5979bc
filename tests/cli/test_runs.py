"""`luthier runs` reads what runs wrote, and nothing else."""

import json

import pytest

from luthier.cli.main import main
from luthier.config.read import load
from luthier.events import Finished, Planned, Step
from luthier.runs import EventLog, RunDirectory


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = RunDirectory.create("first", name_parts=("starter", "rows"), resume=False)
    made.settings_file.write_text(
        load({"model": "starter", "dataset": "r.jsonl", "r": 8}).to_json()
    )
    with EventLog(made) as log:
        log.emit(Planned(steps=2))
        log.emit(Step(step=1, loss=2.0))
        log.emit(Step(step=2, loss=1.5))
        log.emit(Finished(step=2, reason="finished", result="first/result", seconds=1.0))
    return made


def shown(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert not caught.value.code
    return capsys.readouterr().out


def test_list(run, capsys):
    (row,) = json.loads(shown(capsys, "runs", "list", "--json"))
    assert (row["run"], row["state"], row["step"], row["loss"]) == ("first", "finished", 2, 1.5)
    assert "first" in shown(capsys, "runs", "list")


def test_show_has_what_was_asked_for_and_its_origin(run, capsys):
    about = json.loads(shown(capsys, "runs", "show", str(run.path), "--json"))
    assert about["settings"]["lora_dim"] == "8  (alias r, argument r)"
    assert "seed" not in about["settings"]
    assert about["finished"]["result"] == "first/result"
    assert "lora_dim" in shown(capsys, "runs", "show", str(run.path))


def test_follow_ends_with_the_run(run, capsys):
    lines = shown(capsys, "runs", "follow", str(run.path), "--json").splitlines()
    assert [json.loads(line)["type"] for line in lines][-1] == "finished"
    assert "training 2/2  loss 1.5000" in shown(capsys, "runs", "follow", str(run.path))
