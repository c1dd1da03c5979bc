"""The scripts under configs/starter: same seed same bytes, and nothing held out is trained on."""

import itertools
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import CHECKOUT

STARTER = CHECKOUT / "src" / "luthier" / "starter"
NAMES = ("world", "tasks", "stories", "chats", "shop")


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The modules beside the scripts, under their own names as when a script runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CHECKOUT / "configs" / "starter"))
        names = (*NAMES, "make_corpus", "make_tokenizer", "make_demo_data")
        yield {name: import_module(name) for name in names}


def rows(name: str) -> list[dict[str, object]]:
    text = (STARTER / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_the_committed_data_is_what_the_script_writes(scripts, tmp_path: Path) -> None:
    for name, made in scripts["make_demo_data"].rows_by_file(1).items():
        if name != "shuffled":
            assert rows(name) == made, name


def test_the_committed_tokenizer_is_what_the_script_writes(scripts) -> None:
    made = scripts["make_tokenizer"].train(2048, 20_000).to_str()
    committed = (STARTER / "tokenizer.json").read_text(encoding="utf-8")
    assert json.loads(made) == json.loads(committed)


def test_the_corpus_is_a_function_of_its_seed(scripts) -> None:
    documents = scripts["make_corpus"].documents
    first, again, other = (list(itertools.islice(documents(seed), 300)) for seed in (1, 1, 2))
    assert first == again != other
    for text in first:
        scripts["make_corpus"].check_corpus(text)
        assert text.endswith(("<|im_end|>\n", "<|endoftext|>"))


def test_a_leak_through_the_split_is_refused(scripts) -> None:
    shop = scripts["shop"]
    draw = shop.Random(0)
    held = shop.requests(draw, 20, held_out=True)
    train = shop.requests(draw, 50, held_out=False)
    pairs_held = shop.pairs(draw, 10, held_out=True, avoid=set())
    pairs_train = shop.pairs(draw, 20, held_out=False, avoid={row.asked for row in pairs_held})
    shop.split_is_clean(train, held, pairs_train, pairs_held)
    with pytest.raises(AssertionError, match="thing on both sides"):
        shop.split_is_clean([*train, held[0]], held, pairs_train, pairs_held)
    with pytest.raises(AssertionError, match="asked on both sides"):
        shop.split_is_clean(train, held, [*pairs_train, pairs_held[0]], pairs_held)


def test_held_out_rows_share_no_thing_wording_or_question_with_training(scripts) -> None:
    """Read off the committed files: the things are looked for in the text itself."""
    shop = scripts["shop"]
    things = [thing for group in shop.GROUPS.values() for thing in group]

    def asked(name: str) -> list[str]:
        pairs = [row["messages"] for row in rows(name)]
        return [pair[0]["content"] for pair in pairs if pair[1]["content"].startswith("aisle")]

    def mentioned(texts: list[str]) -> set[str]:
        words = [set(text.lower().replace(",", " ").rstrip(".?").split()) for text in texts]
        return {thing for thing in things for found in words if thing in found}

    train, held = asked("sft_train"), asked("sft_eval")
    assert len(held) == len(rows("sft_eval")) >= 60
    assert len(train) >= 400
    assert mentioned(held)
    assert not mentioned(train) & mentioned(held)
    questions = {row["prompt"] for row in rows("preference_train")}
    assert not questions & {row["prompt"] for row in rows("preference_eval")}
    for row in rows("preference_train") + rows("preference_eval"):
        assert row["chosen"].split(maxsplit=1)[0] != row["rejected"].split(maxsplit=1)[0]


def test_the_control_deals_the_same_answers_out_anew(scripts) -> None:
    files = scripts["make_demo_data"].rows_by_file(1)
    pairs = list(zip(files["sft_train"], files["shuffled"], strict=True))
    answers = [[row["messages"][1]["content"] for row in side] for side in zip(*pairs, strict=True)]
    assert sorted(answers[0]) == sorted(answers[1])
    assert all(row["messages"][0] == control["messages"][0] for row, control in pairs)
    aisles = [(a, b) for a, b in zip(*answers, strict=True) if a.startswith("aisle")]
    assert 0.1 < sum(a == b for a, b in aisles) / len(aisles) < 0.4  # a guess: one in four or five
