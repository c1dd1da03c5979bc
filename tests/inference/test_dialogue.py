"""A dialogue: history, streaming, stops, room in the context, base beside tuned."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.tiny import EOS, IM_END, tiny_model_folder
from torch import nn

from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import choose_template
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Message
from luthier.errors import AdapterError, SettingsError, TooLongError
from luthier.inference.dialogue import ChatSession, Sampling
from luthier.inference.generate import generate
from luthier.models.adapters import attach
from luthier.models.load import load_base

NOW = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Tokenizer, Renderer]:
    folder = tiny_model_folder(tmp_path_factory.mktemp("chat"), seed=3)
    tokenizer = Tokenizer.from_folder(folder)
    return load_base(folder, dtype=torch.float32), tokenizer, prompts(tokenizer)


def prompts(tokenizer: Tokenizer, template: str | None = None) -> Renderer:
    chosen, _ = choose_template(tokenizer, setting=template, gallery_template=None, now=NOW)
    return Renderer(tokenizer, chosen)


def test_pieces_are_the_answer_and_join_the_history(parts) -> None:
    model, tokenizer, renderer = parts
    chat = ChatSession(
        model, tokenizer, renderer, system_prompt="Be brief.", sampling=Sampling(max_new_tokens=20)
    )
    asked = [Message("system", "Be brief."), Message("user", "hi")]
    stops = {EOS, IM_END}
    ids = generate(model, renderer.prompt(asked).tolist(), max_new_tokens=20, stop_ids=stops)
    want = tokenizer.decode(list(ids), skip_special=True)
    assert "".join(chat.send("hi")) == want
    assert chat.history == [*asked, Message("assistant", want)]
    assert chat.finish == "length"
    assert chat.notices == ["the answer was cut after max_new_tokens=20"]
    chat.reset()
    assert chat.history == asked[:1]
    assert chat.notices == []


def test_later_turns_are_as_without_a_cache(parts) -> None:
    model, tokenizer, renderer = parts
    sampling = Sampling(max_new_tokens=12, temperature=0.8, top_p=0.95, seed=4)
    chat = ChatSession(model, tokenizer, renderer, sampling=sampling)
    for text in ("one", "two", "three"):
        fresh = ChatSession(model, tokenizer, renderer, sampling=sampling)
        fresh.history = list(chat.history)
        assert "".join(chat.send(text)) == "".join(fresh.send(text))


def test_it_stops_at_the_end_of_a_turn(parts) -> None:
    model, tokenizer, renderer = parts
    plain = ChatSession(model, tokenizer, renderer, sampling=Sampling(max_new_tokens=24))
    assert {EOS, IM_END} >= plain.stop_ids >= {IM_END}
    ids = list(
        generate(model, renderer.prompt([Message("user", "hi")]).tolist(), max_new_tokens=24)
    )
    stop = next(token for token in ids[4:] if token not in ids[:4])
    chat = ChatSession(model, tokenizer, renderer, stop_ids=[stop])
    answer = "".join(chat.send("hi"))
    assert answer == tokenizer.decode(ids[: ids.index(stop)], skip_special=True)
    assert chat.finish == "stop"
    assert chat.notices == []


def test_it_stops_where_the_template_ends_a_turn(
    shared: Callable[[str], Path], parts: tuple[nn.Module, Tokenizer, Renderer]
) -> None:
    tokenizer = Tokenizer.from_folder(shared("tokenizers/phi3"))
    name = "chat_templates/microsoft-Phi-3.5-mini-instruct.jinja"
    renderer = prompts(tokenizer, shared(name).read_text(encoding="utf-8"))
    chat = ChatSession(parts[0], tokenizer, renderer)
    assert tokenizer.special_tokens["<|end|>"] in chat.stop_ids


def test_the_oldest_turns_make_room(parts) -> None:
    model, tokenizer, renderer = parts
    chat = ChatSession(model, tokenizer, renderer, sampling=Sampling(max_new_tokens=30))
    chat.history = [Message("user", "x" * 60), Message("assistant", "y" * 60)] * 2
    assert "".join(chat.send("z" * 20))
    assert chat.notices[0] == (
        "the oldest 2 messages no longer fit the model's 256 tokens and were left out"
    )
    with pytest.raises(TooLongError, match="prompt of"):
        chat.send("w" * 400)
    with pytest.raises(SettingsError, match="message is empty"):
        chat.send(" \n")


def test_an_answer_that_is_not_read_to_its_end_stays_as_far_as_it_came(parts) -> None:
    model, tokenizer, renderer = parts
    chat = ChatSession(model, tokenizer, renderer)
    pieces = chat.send("hi")
    first = next(pieces)
    pieces.close()
    assert chat.history == [Message("user", "hi"), Message("assistant", first)]


def test_compare_answers_without_and_with_the_adapter(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path, seed=3)
    model, tokenizer = load_base(folder, dtype=torch.float32), Tokenizer.from_folder(folder)
    renderer, sampling = prompts(tokenizer), Sampling(max_new_tokens=10)
    alone = ChatSession(model, tokenizer, renderer, sampling=sampling)
    with pytest.raises(AdapterError, match="no adapter"):
        alone.compare("hi")
    base = "".join(alone.send("hi"))
    adapters = attach(model, rank=4, alpha=4.0, targets=["q_proj", "o_proj"], seed=1)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in adapters.named_trained():
            if "lora_B" in name:
                weight.normal_(generator=draw)
    chat = ChatSession(model, tokenizer, renderer, sampling=sampling, adapters=adapters)
    both = chat.compare("hi")
    assert both.base == base != both.tuned == "".join(chat.send("hi"))
    assert len(chat.history) == 2
    first, second = chat.compare_each(["hi", "a longer question"])
    assert first == both
    assert second.base != second.tuned
