"""`luthier eval` measures what training measured, for every kind of run."""

import json
import math

import pytest

from luthier.cli.main import main
from luthier.errors import SettingsError
from luthier.recipes.after.evaluate import evaluate_model


def close(one, other):
    return all(math.isclose(one[name], other[name], abs_tol=1e-5) for name in one)


def test_an_sft_run_is_measured_as_in_its_training(finished):
    ended = finished.sft
    found = evaluate_model(str(ended.path), [finished.files["sft_held"]])
    assert list(found.figures) == ["base", "tuned"]
    assert close(ended.before, found.figures["base"])
    assert close(ended.best, found.figures["tuned"])
    assert found.figures["tuned"]["loss"] < found.figures["base"]["loss"]
    for figures in found.figures.values():
        assert math.isclose(figures["perplexity"], math.exp(figures["loss"]))
    assert found.rows == {"read": 6, "used": 6, "cut": 0, "dropped": 0}


def test_dpo_on_an_sft_run_is_measured_against_where_it_started(finished):
    ended = finished.dpo
    found = evaluate_model(str(ended.path), [finished.files["pairs_held"]])
    assert list(found.figures) == ["base", "start", "tuned"]
    assert math.isclose(found.figures["start"]["loss"], math.log(2), abs_tol=1e-6)
    assert close(ended.before, found.figures["start"])
    assert close(ended.best, found.figures["tuned"])
    assert found.figures["base"]["rewards_margins"] != 0


def test_dpo_of_every_weight_has_its_base_for_reference(finished):
    ended = finished.full
    found = evaluate_model(str(ended.path), [finished.files["pairs_held"]])
    assert list(found.figures) == ["model"]
    assert close(ended.best, found.figures["model"])


def test_a_model_that_is_no_run(finished):
    found = evaluate_model(str(finished.base), [finished.files["sft_held"]])
    assert list(found.figures) == ["model"]
    assert close(finished.sft.before, found.figures["model"])
    with pytest.raises(SettingsError, match="is not a run"):
        evaluate_model(str(finished.base), [finished.files["pairs_held"]], objective="dpo")
    with pytest.raises(SettingsError, match="was trained with sft"):
        evaluate_model(str(finished.sft.path), [finished.files["sft_held"]], objective="text")


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command(finished, capsys, as_json):
    words = ["eval", str(finished.dpo.path), "--dataset", finished.files["pairs_held"]]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json"] if as_json else words)
    assert not ended.value.code
    said = capsys.readouterr().out
    if as_json:
        assert set(json.loads(said)["figures"]) == {"base", "start", "tuned"}
    else:
        assert said.splitlines()[0].split()[:3] == ["on", "6", "rows"]
        assert "preference accuracy" in said
        assert "margin of rewards" in said
