"""`luthier chat` with a tiny model: lines in, streamed answers out."""

from datetime import UTC, datetime

import pytest
import torch
from tests.tiny import tiny_model_folder

from luthier.cli.commands import chat
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import choose_template
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import AdapterError, SettingsError
from luthier.inference.dialogue import ChatSession, Sampling
from luthier.models.load import load_base


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tiny_model_folder(tmp_path_factory.mktemp("chat"), seed=3)
    tokenizer = Tokenizer.from_folder(folder)
    template, _ = choose_template(
        tokenizer, setting=None, gallery_template=None, now=datetime(2026, 1, 1, tzinfo=UTC)
    )
    model = load_base(folder, dtype=torch.float32)
    return ChatSession(
        model, tokenizer, Renderer(tokenizer, template), sampling=Sampling(max_new_tokens=6)
    )


def talked(session, capsys, *lines):
    session.reset()
    left = iter(lines)
    chat.talk(session, lambda: next(left, None))
    return capsys.readouterr()


def test_each_line_is_answered_with_history(session, capsys):
    shown = talked(session, capsys, "hello", "", "  ", "again")
    roles = [message.role for message in session.history]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert shown.out.endswith("\n")
    assert "notice: the answer was cut after max_new_tokens=6" in shown.err


def test_commands_of_the_dialogue(session, capsys):
    talked(session, capsys, "hello", "/reset")
    assert session.history == []
    assert "/compare TEXT" in talked(session, capsys, "/what").out
    talked(session, capsys, "/exit", "never asked")
    assert session.history == []
    assert talked(session, capsys, "/compare").out == "/compare TEXT\n"


def test_comparing_needs_an_adapter(session, capsys):
    with pytest.raises(AdapterError, match="no adapter"):
        talked(session, capsys, "/compare hello")


def test_an_empty_one_shot_is_refused(session):
    session.reset()
    with pytest.raises(SettingsError):
        chat.answer(session, "   ")
