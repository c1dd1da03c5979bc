"""What Python offers: names that complete, typed keywords, results that show themselves, short errors."""

import json
import subprocess
import sys
import traceback
from typing import get_type_hints

import pytest
from pydantic import TypeAdapter

import luthier
from luthier.config.keywords import SettingsKeywords
from luthier.config.settings import Settings
from luthier.events import Evaluated, Finished, Started, Step
from luthier.recipes.before.short_errors import as_keywords
from luthier.recipes.told import Teller
from luthier.shown import html_table


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("front") / "rows.jsonl"
    lines = [{"tanya": f"2 + {n}?", "jawab": f"<b>{n + 2}</b>"} for n in range(40)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_tab_shows_what_there_is_and_imports_nothing_for_it():
    code = "import luthier, sys; print(*dir(luthier)); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, torch = done.stdout.splitlines()
    wanted = "train plan advise check fix evaluate compare export load Run LuthierError"
    assert set(wanted.split()) <= set(names.split())
    assert "Any" not in names.split()
    assert torch == "False"


def test_every_setting_is_a_typed_keyword_and_takes_its_default():
    hints = get_type_hints(SettingsKeywords)
    assert list(hints) == list(Settings.model_fields)
    blank = Settings(model="m", dataset=("d",))
    for name, kind in hints.items():
        TypeAdapter(kind).validate_python(getattr(blank, name), strict=name != "lora_alpha")
    with pytest.raises(ValueError, match="nf5"):
        TypeAdapter(hints["bnb_4bit_quant_type"]).validate_python("nf5")


def test_check_fix_plan_and_advise_answer_and_show_themselves(rows, tmp_path):
    columns = {"prompt": "tanya", "completion": "jawab"}
    report = luthier.check(rows, columns=columns)
    assert (report.rows, report.used) == (40, 40)
    made = luthier.fix(rows, tmp_path / "new.jsonl", columns=columns)
    plan = luthier.plan(model="starter", dataset=tmp_path / "new.jsonl")
    assert plan.verdict == "fits"
    assert luthier.plan(model="qwen3-8b", device="T4 16GB").verdict == "no"
    advice = luthier.advise(model="starter", dataset=str(tmp_path / "new.jsonl"), lang="id")
    assert advice.settings["model"] == "starter"
    for shown in (report, made, plan, advice):
        assert shown._repr_html_().startswith("<h4>")
        assert "<table>" in shown._repr_html_()
    assert "&lt;b&gt;" in html_table("t", [{"x": "<b>"}])


def test_an_error_is_what_why_and_fix_from_the_line_that_asked(rows):
    with pytest.raises(luthier.LuthierError) as refused:
        luthier.plan(model="starter", dataset="absent.jsonl")
    assert len(traceback.extract_tb(refused.tb)) == 2  # this line, and the function it calls
    assert refused.value.__context__ is None
    assert refused.value._render_traceback_()[0].startswith("FileAccessError: absent.jsonl")
    with pytest.raises(luthier.LuthierError) as refused:
        luthier.train(model="starter", dataset=str(rows), learning_rate=3)
    assert "--" not in refused.value.fix
    assert as_keywords("--learning_rate 1") == "learning_rate=1"
    assert as_keywords("--method qlora --load_in_4bit") == "method='qlora', load_in_4bit=True"
    assert as_keywords("luthier data check FILE --model m") == "luthier data check FILE --model m"


def test_a_run_tells_of_itself(capsys):
    tell = Teller()
    tell(Started(model="starter", method="lora", objective="sft", device="CPU"))
    for step in (1, 2, 3):
        tell(Step(step=step, total=3, loss=1.0 / step))
    tell(Evaluated(step=3, metrics={"loss": 0.5}))
    tell(Finished(step=3, reason="completed", seconds=2.0))
    said = capsys.readouterr().out
    assert said.startswith("training starter on answers with LoRA on CPU\n\rstep 1/3  loss 1.0000")
    assert "\rstep 3/3" in said
    assert "step 2/3" not in said  # at most one a second
    assert said.endswith("held out after step 3: loss 0.5\nfinished after 3 steps in 2.0 s\n")


def test_results_of_runs_are_one_call_away(finished, tmp_path):
    run = luthier.load(finished.sft.path)
    assert repr(run) == f"<Run {finished.sft.path}>"
    answers = luthier.compare([finished.base, run], ["say 3"], max_new_tokens=4)
    assert set(answers[0]) == {"question", str(finished.base), str(finished.sft.path)}
    assert "say 3" in answers._repr_html_()
    found = luthier.export(run, tmp_path / "adapter", to="adapter")
    assert (found.path / "adapter_config.json").is_file()
    shown = luthier.Run(str(finished.sft.path), finished.sft)
    assert "held-out loss" in repr(shown)
    assert "<td>loss</td>" in shown._repr_html_()
    measured = luthier.evaluate(run, finished.files["sft_held"])
    assert measured.figures
