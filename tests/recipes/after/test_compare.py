"""`luthier compare`: the same rows through all, what the differences show, and what is refused."""

import json
from html.parser import HTMLParser

import pytest

from luthier.cli.main import main
from luthier.errors import SettingsError
from luthier.recipes.after.compare import compare_models
from luthier.recipes.after.evaluate import evaluate_model


@pytest.fixture(scope="module")
def compared(finished):
    """Base and SFT run on its rows, pairs beside them, judged by somebody who likes what is second."""
    return compare_models(
        [str(finished.base), str(finished.sft.path)],
        [finished.files["sft_held"]],
        general=[finished.files["pairs_held"]],
        metrics=["exact", "rouge_l"],
        max_new_tokens=8,
        judge=lambda question: "second",
    )


def words(section):
    return {one.metric.name: one.word for said in section.verdicts.values() for one in said}


def test_a_run_is_better_than_its_base_on_rows_like_its_own(compared, finished):
    task, _ = compared.sections
    assert words(task)["loss"] == "better"
    figures = evaluate_model(
        str(finished.sft.path), [finished.files["sft_held"]], metrics=["loss"]
    ).figures
    base, run = (one.figures for one in task.measured)
    assert base["loss"] == pytest.approx(figures["base"]["loss"], abs=1e-6)
    assert run["loss"] == pytest.approx(figures["tuned"]["loss"], abs=1e-6)


def test_general_rows_have_a_section_of_their_own(compared):
    _, general = compared.sections
    assert general.kind == "pairs"
    assert set(words(general)) == {"preference", "preference_norm"}
    assert words(general)["preference"] in ("better", "worse", "no difference shown")


def test_a_judge_who_likes_what_is_second_finds_nothing(compared):
    judged = next(iter(compared.sections[0].judged.values()))
    assert judged.sides == ("tie",) * 6
    assert judged.word == "no difference shown"
    assert judged.swapped > 0


def test_a_model_beside_itself_shows_no_difference_and_the_same_answers(finished):
    run = str(finished.sft.path)
    found = compare_models(
        [run, run], [finished.files["sft_held"]], max_new_tokens=8, metrics=["exact"]
    )
    assert set(words(found.sections[0]).values()) == {"no difference shown"}
    one, other = found.sections[0].measured
    assert [row.answer for row in one.rows] == [row.answer for row in other.rows]
    assert one.title != other.title


def test_a_run_of_every_weight_is_compared_with_what_it_began_with(finished):
    found = compare_models(
        [str(finished.base), str(finished.full.path)], [finished.files["pairs_held"]]
    )
    assert set(words(found.sections[0])) == {"preference", "preference_norm"}


def test_one_model_is_no_comparison(finished):
    with pytest.raises(SettingsError, match="1 model to compare"):
        compare_models([str(finished.base)], [finished.files["sft_held"]])


def test_a_judge_is_for_answers_in_writing(finished, compared):
    assert not compared.sections[1].judged
    with pytest.raises(SettingsError, match="holds pairs"):
        compare_models(
            [str(finished.base)] * 2, [finished.files["pairs_held"]], judge=lambda _: "tie"
        )


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "circle", "line", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("circle", "line"):
            assert self.open.pop() == tag


def test_the_report_is_one_file_without_script_or_network_and_says_all(compared):
    text = compared.report()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert {"script", "link", "img", "iframe"}.isdisjoint(page.tags)
    assert not [
        v for n, v in page.attributes if n in ("src", "href") or (v or "").startswith("http")
    ]
    assert "url(" not in text
    assert "prefers-color-scheme:dark" in text
    assert page.tags.count("svg") >= 4
    for row in compared.sections[0].measured[0].rows:
        assert row.expected in text


def test_what_rows_and_models_write_cannot_become_part_of_the_page(finished, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "<script>x</script>", "completion": "</pre><img src=x>"}))
    text = evaluate_model(str(finished.base), [str(rows)], max_new_tokens=4).report()
    assert "<script>" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    return ended.value.code or 0, said.out, said.err


def test_the_command(finished, capsys, tmp_path):
    models = [str(finished.base), str(finished.sft.path)]
    rows = ["--dataset", finished.files["sft_held"], "--max-new-tokens", "4"]
    report = tmp_path / "report.html"
    status, said, _ = run(capsys, "compare", *models, *rows, "--report", str(report))
    assert status == 0
    assert f"{models[1]} against {models[0]}, loss: better" in said
    assert "> say 12" in said
    assert report.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "neither --dataset nor --prompt"),
        (["--dataset", "x", "--prompt", "y"], "--prompt and --dataset"),
        (["--dataset", "x", "--judge", "http://127.0.0.1:1/v1"], "--judge without --judge-model"),
        (["--dataset", "x", "--answers", "0"], "--answers 0"),
        (["--dataset", "x", "--report", "absent/r.html"], "--report absent/r.html"),
        (["--prompt", "x", "--metrics", "exact"], "--prompt with an option of --dataset"),
        (["--dataset", "x", "--judge", "ftp://x", "--judge-model", "m"], "no address of a judge"),
    ],
)  # fmt: skip
def test_what_the_command_refuses_before_any_work(capsys, words, said):
    status, _, error = run(capsys, "compare", "absent-model", "another", *words)
    assert status == 2
    assert said in error


def test_a_metric_that_is_not_known_or_does_not_suit_the_rows_is_refused(finished):
    with pytest.raises(SettingsError, match="the metrics are loss, accuracy"):
        evaluate_model(str(finished.base), [finished.files["sft_held"]], metrics=["bleu"])
    with pytest.raises(SettingsError, match="has no answer in writing"):
        evaluate_model(str(finished.base), [finished.files["pairs_held"]], metrics=["exact"])
    with pytest.raises(SettingsError, match="max-new-tokens 0"):
        evaluate_model(str(finished.base), [finished.files["sft_held"]], max_new_tokens=0)
