"""Answers as a service gives them, on the starter model."""

import json
import math

import pytest
import torch

from luthier.errors import SettingsError
from luthier.inference.completion import Wanted, complete
from luthier.inference.generate import generate
from luthier.recipes.after.open_model import Opened, open_model


@pytest.fixture(scope="module")
def starter() -> Opened:
    return open_model("starter")


@pytest.fixture(scope="module")
def prompt(starter: Opened) -> list[int]:
    messages = [{"role": "user", "content": "Tell me something."}]
    from luthier.data.formats.messages import read_messages

    return [int(one) for one in starter.renderer.prompt(read_messages(messages))]


def _run(starter: Opened, prompt: list[int], **wanted: object) -> list[dict[str, object]]:
    events = complete(
        starter.model, starter.tokenizer, prompt, Wanted(**wanted), stop_ids=starter.chat().stop_ids
    )
    return json.loads(json.dumps(list(events), allow_nan=False))


def _text(events: list[dict[str, object]], index: int = 0) -> str:
    return "".join(str(e["text"]) for e in events if e["type"] == "delta" and e["index"] == index)


def test_greedy_is_what_generate_gives(starter: Opened, prompt: list[int]) -> None:
    events = _run(starter, prompt, max_tokens=24)
    tokens = generate(starter.model, prompt, max_new_tokens=24, stop_ids=starter.chat().stop_ids)
    ids = list(tokens)
    assert _text(events) == starter.tokenizer.decode(ids, skip_special=True)
    assert events[-1]["prompt_tokens"] == len(prompt)
    ended = "stop" if tokens.finish == "stop" else "length"
    assert [e["finish_reason"] for e in events if e["type"] == "end"] == [ended]
    assert events[-1]["completion_tokens"] == len(ids) + (tokens.finish == "stop")


def test_a_stop_text_ends_the_answer_and_is_not_in_it(starter: Opened, prompt: list[int]) -> None:
    whole = _text(_run(starter, prompt, max_tokens=24))
    stop = whole[6:10]
    events = _run(starter, prompt, max_tokens=24, stop=(stop, "never said"))
    assert _text(events) == whole[: whole.index(stop)]
    assert events[-2]["finish_reason"] == "stop"


def test_text_held_back_for_a_stop_that_does_not_come_is_given(
    starter: Opened, prompt: list[int]
) -> None:
    whole = _text(_run(starter, prompt, max_tokens=24))
    assert _text(_run(starter, prompt, max_tokens=24, stop=(whole[-2:] + "never",))) == whole


def test_log_probabilities_are_those_of_the_model(starter: Opened, prompt: list[int]) -> None:
    events = _run(starter, prompt, max_tokens=6, top_logprobs=3)
    entries = [one for e in events if e["type"] == "delta" for one in e["logprobs"]]
    with torch.no_grad():
        ids = list(generate(starter.model, prompt, max_new_tokens=6))
        from luthier.models.build import generation_mode

        with generation_mode(starter.model):
            logits = starter.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 :]
    logp = torch.log_softmax(logits.float(), -1)
    for place, entry in enumerate(entries):
        assert entry["logprob"] == pytest.approx(float(logp[place, ids[place]]), abs=1e-4)
        assert [one["logprob"] for one in entry["top"]] == pytest.approx(
            logp[place].topk(3).values.tolist(), abs=1e-4
        )
        assert bytes(entry["bytes"]).decode() == entry["token"]
    assert len(entries) == min(6, len(ids))


def test_a_bias_forbids_a_token_and_a_penalty_repetition(
    starter: Opened, prompt: list[int]
) -> None:
    first = next(generate(starter.model, prompt, max_new_tokens=1))
    events = _run(starter, prompt, max_tokens=1, logit_bias={first: -100.0})
    assert _text(events) != starter.tokenizer.decode([first])
    word = " you"
    (token,) = (int(one) for one in starter.tokenizer.encode(word))
    forced = {"max_tokens": 30, "logit_bias": {token: 40.0}}
    free = _text(_run(starter, prompt, **forced)).count(word)
    assert _text(_run(starter, prompt, **forced, frequency_penalty=2.0)).count(word) < free
    assert _text(_run(starter, prompt, **forced, presence_penalty=2.0)).count(word) <= free


def test_several_answers_are_drawn_with_seeds_of_their_own(
    starter: Opened, prompt: list[int]
) -> None:
    events = _run(starter, prompt, max_tokens=16, temperature=1.5, seed=7, n=3)
    texts = [_text(events, index) for index in range(3)]
    assert len(set(texts)) == 3
    assert texts[1] == _text(_run(starter, prompt, max_tokens=16, temperature=1.5, seed=8))
    assert all(math.isfinite(float(e["tokens_per_s"])) for e in events if e["type"] == "usage")


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"stop": ("",)},
        {"temperature": 3.0},
        {"top_logprobs": 21},
        {"stop": tuple("abcde")},
    ],
)
def test_what_is_out_of_range_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"out of range"):
        Wanted(**wrong)
