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
    held = shop.orders(draw, 20, held_out=True, avoid=set())
    train = shop.orders(draw, 50, held_out=False, avoid={row.goods for row in held})
    pairs_held = shop.pairs(draw, 10, held_out=True, avoid=set())
    pairs_train = shop.pairs(draw, 20, held_out=False, avoid={row.asked for row in pairs_held})
    shop.split_is_clean(train, held, pairs_train, pairs_held)
    with pytest.raises(AssertionError, match="name on both sides"):
        shop.split_is_clean([*train, held[0]], held, pairs_train, pairs_held)
    with pytest.raises(AssertionError, match="asked on both sides"):
        shop.split_is_clean(train, held, [*pairs_train, pairs_held[0]], pairs_held)


def test_held_out_rows_share_no_name_town_or_question_with_training() -> None:
    """Read off the committed files, without the script that made them."""

    def tickets(name: str) -> list[dict[str, str]]:
        answers = [row["messages"][1]["content"] for row in rows(name)]
        fields = [answer.split("; ") for answer in answers if answer.startswith("name: ")]
        return [{"name": f[0], "city": f[1], "goods": " ".join(sorted(f[2:]))} for f in fields]

    train, held = tickets("sft_train"), tickets("sft_eval")
    assert len(held) == len(rows("sft_eval")) >= 60
    assert len(train) >= 400
    for what in ("name", "city", "goods"):
        assert not {row[what] for row in train} & {row[what] for row in held}
    asked = {row["prompt"] for row in rows("preference_train")}
    assert not asked & {row["prompt"] for row in rows("preference_eval")}
    for row in rows("preference_train") + rows("preference_eval"):
        assert row["chosen"].split(maxsplit=1)[0] != row["rejected"].split(maxsplit=1)[0]


def test_the_control_has_every_ticket_at_a_wrong_order(scripts) -> None:
    files = scripts["make_demo_data"].rows_by_file(1)
    pairs = list(zip(files["sft_train"], files["shuffled"], strict=True))
    changed = [row != control for row, control in pairs]
    answers = [[row["messages"][1]["content"] for row in side] for side in zip(*pairs, strict=True)]
    assert sorted(answers[0]) == sorted(answers[1])
    assert sum(changed) == sum(answer.startswith("name: ") for answer in answers[0])
    assert all(row["messages"][0] == control["messages"][0] for row, control in pairs)
