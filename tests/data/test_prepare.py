import json
from dataclasses import replace

import pytest
from tests.conftest import SHARED
from tests.rendering import byte_tokenizer, chat, chat_template

from luthier.data.load import Loaded, LoadedFile, load_samples
from luthier.data.prepare import fingerprint, overlap, prepare
from luthier.data.rendering.render import Renderer
from luthier.data.types import BadRow, Conversation, Origin
from luthier.errors import BadRowsError, NoRowsError, TooLongError

SOURCE = "{% for m in messages %}{{ '<|' + m.role[0] + '|>' + m.content + '<|e|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|a|>' }}{% endif %}"


def renderer(limit=1000, **settings):
    tokenizer = byte_tokenizer(("<|s|>", "<|u|>", "<|a|>"), eos="<|e|>")
    return Renderer(tokenizer, chat_template(SOURCE, tokenizer), seq_length=limit, **settings)


def loaded(*talks, bad=()):
    samples = [Conversation(talk, Origin("f.jsonl", at + 1)) for at, talk in enumerate(talks)]
    return Loaded(
        samples,
        {"messages": len(samples)},
        list(bad),
        [LoadedFile("f.jsonl", "ab" * 32, len(samples))],
    )


TALKS = [chat(f"q{at}", f"a{at}") for at in range(100)]


def test_the_account_of_a_clean_data_set():
    made = prepare(loaded(*TALKS), renderer())
    report = json.loads(json.dumps(made.report))
    assert report["rows"] == {
        "read": 100,
        "used": 100,
        "cut": 0,
        "dropped": 0,
        "dropped_bad": 0,
        "dropped_long": 0,
        "own_system_prompt": 0,
    }
    assert report["files"] == [{"path": "f.jsonl", "sha256": "ab" * 32, "rows": 100}]
    assert report["mix"] == {"messages": 100}
    assert report["supervised_tokens"] == 10 * 3 + 90 * 4
    assert report["lengths"]["min"] == 8
    assert (made.ledger, made.notices) == ([], [])
    assert made.fingerprint == fingerprint(made.examples) == report["fingerprint"]


def test_up_to_one_per_cent_bad_rows_are_dropped_and_more_are_refused():
    empty = chat("q", " ")
    made = prepare(loaded(*TALKS[:99], empty), renderer())
    assert len(made.examples) == 99
    assert made.ledger == [
        {
            "file": "f.jsonl",
            "line": 100,
            "action": "dropped",
            "reason": "the answer in message 2 is empty",
        }
    ]
    assert "1 rows were dropped" in made.notices[0]
    with pytest.raises(BadRowsError, match=r"f\.jsonl line 100") as caught:
        prepare(loaded(*TALKS[:98], empty, empty), renderer())
    assert "1 %" in caught.value.why
    with pytest.raises(BadRowsError, match="refuse"):
        prepare(loaded(*TALKS[:99], empty), renderer(), bad_rows="refuse")


def test_rows_that_could_not_be_parsed_count_too_and_the_first_twenty_are_listed():
    bad = [BadRow(Origin("f.jsonl", 200 + at), "no messages") for at in range(30)]
    with pytest.raises(BadRowsError, match="30 of 130") as caught:
        prepare(loaded(*TALKS, bad=bad), renderer())
    assert "line 219" in caught.value.what
    assert "line 220" not in caught.value.what
    assert "and 10 more" in caught.value.what


def test_long_rows_by_each_rule():
    talks = [*TALKS[:10], chat("a rather long question", "and an answer")]
    made = prepare(loaded(*talks), renderer(20))
    assert made.ledger[0] | {"reason": ""} == {
        "file": "f.jsonl",
        "line": 11,
        "action": "cut",
        "prompt_tokens": 19,
        "answer_tokens": 0,
        "turns": 0,
        "reason": "",
    }
    assert made.report["rows"]["cut"] == 1
    made = prepare(loaded(*talks), renderer(20, truncation="drop"))
    assert [entry["action"] for entry in made.ledger] == ["dropped"]
    with pytest.raises(TooLongError, match="1 of 11"):
        prepare(loaded(*talks), renderer(20, truncation="refuse"))
    with pytest.raises(TooLongError, match="up to 16: 90 tokens"):
        prepare(loaded(*TALKS), renderer(5, truncation="drop"))


def test_nothing_left_is_an_error():
    with pytest.raises(NoRowsError, match="none can be used"):
        prepare(loaded(), renderer())


def test_the_fingerprint_changes_with_ids_weights_and_borders():
    first = prepare(loaded(*TALKS), renderer())
    assert prepare(loaded(*TALKS), renderer()).fingerprint == first.fingerprint
    others = [
        prepare(loaded(*TALKS[1:]), renderer()),
        prepare(loaded(*TALKS[::-1]), renderer()),
        prepare(loaded(*TALKS), renderer(train_on="all")),
        prepare(loaded(*TALKS), renderer(system_prompt="x")),
    ]
    prints = {first.fingerprint, *(made.fingerprint for made in others)}
    assert len(prints) == 5
    example = first.examples[0]
    twice = replace(example, sequences=example.sequences * 2)
    assert fingerprint([example, example]) != fingerprint([twice])


def test_repeated_rows_and_rows_held_out_twice_are_counted():
    made = prepare(loaded(*TALKS, TALKS[0]), renderer())
    assert made.notices == ["1 rows repeat an earlier row"]
    train, held_out = loaded(*TALKS).samples, loaded(TALKS[3], chat("new", "row")).samples
    assert overlap(train, held_out) == 1


def test_own_system_prompts_are_counted():
    shared = renderer(system_prompt="ours")
    for _ in range(2):  # training and held-out rows, counted apart
        made = prepare(loaded(*TALKS, chat("q", "a", system="mine")), shared)
    assert made.report["rows"]["own_system_prompt"] == 1
    assert "wins over system_prompt" in made.notices[0]


@pytest.mark.parametrize(
    "name", ["sft/alpaca_en_demo.json", "sft/oasst_guanaco.jsonl", "preference/dpo_en_demo.json"]
)
def test_real_rows_become_examples(name):
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is absent")
    rows = load_samples([str(SHARED / name)], objective=None)
    made = prepare(rows, renderer(2048, objective="dpo" if "dpo" in name else "sft"))
    assert len(made.examples) == len(rows.samples)
    assert all(
        len(item.ids) <= 2048 and item.weights.any()
        for row in made.examples
        for item in row.sequences
    )
    assert made.report["rows"]["cut"] == sum(entry["action"] == "cut" for entry in made.ledger)
