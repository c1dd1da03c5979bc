"""`luthier gallery` as it is typed."""

import json

import pytest
from tests.hub_server import serving
from tests.tiny import tiny_model_folder

from luthier.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("gallery") / "tiny", "qwen3")


def run(capsys, *words):
    """Standard output, standard error and exit status of one command."""
    try:
        main(["gallery", *words])
        status = 0
    except SystemExit as stopped:
        status = stopped.code or 0
    said = capsys.readouterr()
    return said.out, said.err, status


def listed(capsys, *words):
    out, _, status = run(capsys, "list", "--json", *words)
    assert status == 0
    return json.loads(out)


def names(capsys, *words):
    return [row["model"] for row in listed(capsys, *words)]


def test_filters_can_be_combined(capsys):
    everything = names(capsys)
    assert len(everything) > 80
    found = listed(capsys, "--family", "qwen3", "--language", "vi", "--max-params", "2B")
    assert [row["model"] for row in found] == [
        "qwen3-0.6b", "qwen3-0.6b-base", "qwen3-1.7b", "qwen3-1.7b-base",
    ]  # fmt: skip
    assert names(capsys, "--search", "TinyLlama") == ["tinyllama-1.1b-chat"]
    assert set(names(capsys, "--licence", "apache")) < set(everything)
    assert "gpt-oss-20b" not in names(capsys, "--tested")
    assert names(capsys, "--search", "nothing-like-it") == []
    assert "no model fits these filters" in run(capsys, "list", "--search", "nothing-like-it")[0]


def test_marks_are_for_the_machine_asked_about(capsys):
    small = {row["model"]: row["marks"] for row in listed(capsys, "--device", "T4 16GB")}
    large = {row["model"]: row["marks"] for row in listed(capsys, "--device", "H200")}
    assert small["llama-3.1-8b"]["full"]["mark"] == "no"
    assert small["llama-3.1-8b"]["qlora"]["mark"] == "fits"
    assert large["llama-3.1-8b"]["lora"]["mark"] == "fits"
    assert small["gpt-oss-20b"] == {}
    fitting = set(names(capsys, "--device", "T4 16GB", "--fits", "full"))
    assert fitting == {
        name for name, marks in small.items() if marks.get("full", {}).get("mark", "no") != "no"
    }
    assert "starter" in fitting


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--family", "qwn"), "there is no family 'qwn'"),
        (("--fits", "dora"), "there is no method 'dora'"),
        (("--max-params", "big"), "'big' is no number of parameters"),
        (("--max-params", "-3B"), "is no number of parameters"),
    ],
)
def test_filters_that_are_none_are_refused(capsys, words, message):
    _, err, status = run(capsys, "list", *words)
    assert status == 2
    assert message in err


def test_show_tells_everything_in_words(capsys):
    out, _, status = run(capsys, "show", "Qwen/Qwen2.5-7B")
    assert status == 0
    for part in ("7,615,616,512", "Qwen/Qwen2.5-7B", "Apache-2.0", "traps", "recommended", "7e-06"):
        assert part in out
    about = json.loads(run(capsys, "show", "mixtral-8x7b", "--json")[0])
    assert about["active_parameters"] == 12_879_925_248
    assert about["gated"] == "unverified"
    _, err, status = run(capsys, "show", "qwen3-8")
    assert status == 2
    assert "luthier gallery show qwen3-8b" in err


def test_add_list_forget(capsys, model):
    out, _, status = run(capsys, "add", str(model), "--name", "mine")
    assert status == 0
    assert "luthier train --model mine" in out
    assert names(capsys, "--local") == ["starter", "mine"]
    out, _, _ = run(capsys, "forget", "mine")
    assert str(model) in out
    assert names(capsys, "--local") == ["starter"]
    assert run(capsys, "forget", "mine")[2] == 2


def test_pull_from_a_mirror(capsys, model):
    with serving(org__tiny=model) as hub:
        out, _, status = run(capsys, "pull", "org/tiny", "--mirror", hub.endpoint, "--json")
    assert status == 0
    assert json.loads(out)["model"] == "org/tiny"
    assert names(capsys, "--local") == ["starter", "org/tiny"]


def test_what_is_at_hand_is_first_and_sizes_are_read_at_a_glance(capsys):
    out = run(capsys, "list")[0]
    assert out.splitlines()[1].startswith("starter")
    assert "e+0" not in out
    assert "1B" in out
