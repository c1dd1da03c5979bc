"""What is drawn: plain lines off a terminal, a bar on one, JSON where it is asked for."""

import json

import pytest

from luthier.cli.drawing import render
from luthier.cli.drawing.watcher import RunDisplay
from luthier.events import (
    CheckpointSaved,
    DataRead,
    Evaluated,
    Finished,
    Notice,
    Planned,
    ReferenceScored,
    Started,
    Step,
)
from luthier.events.sentences import describe


def test_control_sequences_are_taken_out_and_text_stays():
    assert render.clean("a\x1b[31mb\x1b[0m\x07\x9bc é 猫\n") == "abc é 猫\n"
    turned = "pay \u202e001\u202c \u2067x\u2069 \u200f"
    assert render.clean(turned) == "pay \\u202e001\\u202c \\u2067x\\u2069 \\u200f"
    assert render.clean("नमस्ते \u200d 👩\u200d🚀") == "नमस्ते \u200d 👩\u200d🚀"  # joiners are text


def test_a_table_off_a_terminal_is_aligned_text(capsys):
    rows = [{"run": "a", "loss": None, "steps": 12345}, {"run": "longer", "loss": 0.25, "steps": 1}]
    render.table(rows, as_json=False)
    assert capsys.readouterr().out == (
        "run     loss  steps\na       -     12,345\nlonger  0.25  1\n"
    )
    render.table(rows, as_json=True)
    assert json.loads(capsys.readouterr().out) == rows
    render.table([], as_json=False, empty="none yet")
    assert capsys.readouterr().out == "none yet\n"


def test_facts_are_nested(capsys):
    render.facts({"a": 1, "inner": {"bb": True, "c": {}}}, as_json=False)
    assert capsys.readouterr().out == "a      1\ninner\n  bb  yes\n  c   -\n"


def test_side_by_side_wraps(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "43")
    render.side_by_side(["base", "tuned"], ["one two three four five six", "short"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("|")[0].strip() == "base"
    assert lines[2].endswith("| short")
    assert len(lines) == 4


EVENTS = [
    Started(device="cpu", model="starter", method="lora", objective="sft", devices=1),
    Notice(text="nothing is padded"),
    DataRead(train={"mix": {"messages": 5}, "rows": {"read": 5, "cut": 0}, "tokens": 90}),
    Planned(steps=3, disk_bytes=2048, chosen={"learning_rate": [2e-4, "why"]}),
    ReferenceScored(done=2, total=2),
    *(
        Step(
            step=n,
            loss=1.0 / n,
            learning_rate=2e-4,
            tokens_per_s=1234.0,
            eta_s=5.0,
            time=100.0 + n / 10,
        )
        for n in (1, 2, 3)
    ),
    Evaluated(step=3, metrics={"loss": 0.5, "accuracy": 0.75}, best=True),
    CheckpointSaved(step=3, path="runs/x/checkpoints/step-000003", bytes=2**20),
    CheckpointSaved(step=4, path="runs/x/checkpoints/step-000004", bytes=2**20),
    Finished(step=3, reason="finished", result="runs/x/result", seconds=12.0),
]


def test_a_run_off_a_terminal_is_plain_lines_and_no_flood(capsys):
    with RunDisplay() as watcher:
        for event in EVENTS:
            watcher.on_event(event)
    assert capsys.readouterr().out.splitlines() == [
        "training starter on answers with LoRA on cpu",
        "note: nothing is padded",
        "data: 5 rows read (messages), 90 tokens",
        "plan: 3 steps",
        "  checkpoints and result take 2 KiB of disk",
        "  learning_rate 0.0002: why",
        "reference 2/2",
        "training 1/3  loss 1.0000  lr 2.00e-04  1,234 tok/s  5.0 s left",
        "training 3/3  loss 0.3333  lr 2.00e-04  1,234 tok/s  5.0 s left",
        "held out after step 3: loss 0.5, token accuracy 75.0% (the best so far)",
        "checkpoint saved: runs/x/checkpoints/step-000004, 1 MiB",
        "finished after 3 steps in 12.0 s",
        "result: runs/x/result",
    ]


def test_json_is_one_event_a_line_whatever_it_holds(capsys):
    with RunDisplay(as_json=True) as watcher:
        watcher.on_event(Step(step=1, loss=float("nan")))
        watcher.on_event({"type": "notice", "text": "x"})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["loss"] is None
    assert lines[0]["loss_text"] == "nan"
    assert lines[1] == {"type": "notice", "text": "x"}


def test_a_terminal_gets_a_bar_with_loss_speed_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with RunDisplay() as watcher:
        for event in EVENTS:
            watcher.on_event(event)
    out = capsys.readouterr().out
    for part in (
        "training",
        "3/3",
        "loss 0.3333",
        "1,234 tok/s",
        "5.0 s left",
        "nothing is padded",
    ):
        assert part in out


@pytest.mark.parametrize(
    "kind", ["started", "notice", "warning", "data", "planned", "finished", "failed"]
)
def test_an_event_of_an_older_version_with_fewer_fields_is_shown_all_the_same(kind):
    assert isinstance(describe({"type": kind, "step": 1}), str)


def test_a_log_fits_80_columns_and_pairs_have_one_line(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    pairs = {
        "loss": 0.6931,
        "accuracy": 0.25,
        "logps_accuracy": 0.5,
        "rewards_chosen": -1.2e-09,
        "rewards_rejected": 2e-9,
        "rewards_margins": 1e-9,
    }
    path = (
        "/a/path/that/is/longer/than/a/line/and/may/not/be/broken/or/it/could/not/be/pasted/again"
    )
    with RunDisplay() as watcher:
        watcher.on_event(Notice(text="a sentence that is longer than a terminal has columns " * 3))
        watcher.on_event(Evaluated(step=0, metrics=pairs))
        watcher.on_event(Started(model="m", path=path))
        watcher.on_event(Finished(step=2, reason="interrupted", seconds=3.0))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80 and "/" not in line] == []
    assert any(line.strip().endswith(path) for line in lines)
    told = "loss 0.6931, pairs ranked right 25.0%, preferred answer likelier 50.0%, margin 0"
    assert told in " ".join(" ".join(lines).split())
    assert lines[-1] == "stopped after 2 steps in 3.0 s"
    assert not any("rewards_" in line for line in lines)
