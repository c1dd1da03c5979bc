"""Token counts without a model: exact where the tokenizer is, and as good as said where it is not."""

import json

import numpy as np
import pytest

from luthier.config.settings import Settings
from luthier.data.tokens.token_rates import features, rates_for
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import ModelNotFoundError
from luthier.recipes.before.estimate import estimate
from luthier.recipes.before.preview import previews

TURNS = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A lute."}]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    long = [TURNS[0], {"role": "assistant", "content": "la " * 700}]
    bad = [TURNS[0], {"role": "assistant", "content": ""}]
    path.write_text("".join(json.dumps({"messages": m}) + "\n" for m in (TURNS, long, bad)))
    return str(path)


def test_with_the_tokenizer_the_counts_are_those_of_training(rows):
    settings = Settings(model="starter", dataset=(rows,))
    found = estimate(settings)
    shown = previews(settings, first=1, count=2)["rows"]
    assert found["exact"]
    assert found["tokens"] == sum(row["tokens"][0] for row in shown)
    assert (found["rows"], found["bad"]) == (2, 1)
    assert found["longest"] == shown[1]["tokens"][0]
    assert found["over"]["512"] == 1
    assert found["learned"] > 700  # beyond seq_length would be cut: lengths are before the cut


def test_without_it_the_error_is_stated(rows):
    found = estimate(Settings(model="qwen2.5-7b-instruct", dataset=(rows,)))
    assert not found["exact"]
    assert 0 < found["mean_error"] < found["worst_error"] < 0.3
    with pytest.raises(ModelNotFoundError, match="neither at hand nor"):
        estimate(Settings(model="nobody/has-this", dataset=(rows,)))


def test_other_sizes_take_the_nearest_and_say_so():
    assert (rates_for(128256).name, rates_for(128256).same) == ("llama3", True)
    assert (rates_for(256000).name, rates_for(256000).same) == ("qwen", False)


def test_kinds_of_characters_are_told_apart():
    english, indonesian = features("the cat is on a mat"), features("kucing itu tidur siang")
    assert english[:2].tolist() == [6, 14]
    assert english[2:4].sum() == 0
    assert indonesian[2:4].tolist() == [4, 19]
    assert features("你好 42!")[4:].tolist() == [2, 1, 0, 0, 2, 0]


def test_the_estimate_is_as_good_as_it_says(shared):
    tokenizer = Tokenizer.from_folder(shared("tokenizers/llama2"))
    rates = rates_for(32000)
    path = shared("sft/identity.json")  # not among the files of the fit
    texts = [row["output"] for row in json.loads(path.read_text("utf-8"))]
    true = sum(len(tokenizer.encode(text)) for text in texts)
    guessed = sum(rates.tokens(text) for text in texts)
    assert abs(guessed - true) / true <= rates.worst_error
    assert np.isfinite(guessed)
