"""`luthier demo` shows the stages of a run and what changed; the demo itself is tested as a recipe."""

from pathlib import Path

from luthier.cli.commands import demo
from luthier.cli.drawing.watcher import RunDisplay
from luthier.recipes.demo import DemoResult, SideBySide
from luthier.runs.ended import RunResult


def ended(**figures):
    return RunResult(Path("runs/x"), "completed", 3, **figures)


def test_stages_and_summary(capsys, tmp_path):
    with RunDisplay(brief=True) as watcher:
        show = demo._stage(watcher)
        show("data", {"pieces": [("<user>2+2", 0.0), ("4", 1.0), ("<end>", 1.0)], "file": "f"})
        watcher.on_event({"type": "notice", "text": "not shown"})
        watcher.on_event({"type": "warning", "text": "shown"})
        examples = [SideBySide("2+2?", "4", "5", "4")]
        show("answers", {"examples": examples, "exact": [0, 1], "total": 1})
    found = DemoResult(
        ended(before={"loss": 2.0, "accuracy": 0.25}, last={"loss": 1.0, "accuracy": 0.75}),
        ended(before={"accuracy": 0.5}, last={"accuracy": 1.0}),
        0,
        1,
        1,
        examples,
    )
    demo._summary(found, tmp_path)
    out = capsys.readouterr().out
    for part in (
        "<user>2+2«4<end>»",
        "warning: shown",
        "exactly right: 0 of 1 before, 1 after",
        "0.25    0.75",
        "preference accuracy",
        str(tmp_path / "sft"),
    ):
        assert part in out
    assert "not shown" not in out


def test_an_earlier_demo_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = demo._free_folder()
    first.mkdir(parents=True)
    assert demo._free_folder().name == f"{first.name}-2"
