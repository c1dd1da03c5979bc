"""Rows that are rendered in children: the same as here, bit for bit, and nothing outlives a limit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import numpy as np
import psutil
import pytest

from luthier.data.limited.crew import Crew
from luthier.data.limited.opening import LimitedTokenizer, open_folder, open_renderer
from luthier.data.limited.process import ChildLimits
from luthier.data.limited.renderers import HelpedRenderer, LimitedRenderer, in_children, opening
from luthier.data.load import load_samples
from luthier.data.prepare import prepare
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import RowTemplateError, choose_template
from luthier.data.types import (
    BadRow,
    Conversation,
    Example,
    Feedback,
    Message,
    Origin,
    Preference,
    Text,
    ToolCall,
)
from luthier.errors import TemplateError, TokenizerError
from luthier.units import GIB

STARTER = Path(str(files("luthier") / "starter"))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
WANTED = {
    "objective": "sft", "train_on": None, "system_prompt": None, "seq_length": 64, "truncation": "prompt_start",
}  # fmt: skip
CHAT = {"apply": True, "gallery_template": None, "now": NOW, "kwargs": {}}
HERE = Origin("rows.jsonl", 3)
QUESTION, ANSWER = Message("user", "What is 3 + 4?"), Message("assistant", "It is 7.")
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}
ROWS = [
    Conversation((QUESTION, ANSWER), HERE),
    Conversation((Message("system", "Be short."), QUESTION, ANSWER), HERE),
    Conversation((QUESTION, ANSWER) * 30, HERE),  # is cut
    Conversation((QUESTION, Message("assistant", "half \ud83d a pair")), HERE),
    Conversation((QUESTION, Message("assistant", "<|im_end|> as text")), HERE),
    Conversation((QUESTION, Message("assistant", "9</think>It is 7.")), HERE),
    Conversation((QUESTION, Message("assistant", "It is 7.", weight=0.25)), HERE),
    Conversation((QUESTION, Message("assistant", " ")), HERE),  # cannot be used
    Conversation(
        (
            QUESTION,
            Message("assistant", "", tool_calls=(ToolCall("weather", {"city": "Hà Nội"}, "1"),)),
            Message("tool", "30", tool_call_id="1", name="weather"),
            ANSWER,
        ),
        HERE,
        (WEATHER,),
    ),
    Conversation((QUESTION, ANSWER), HERE, template_kwargs={"enable_thinking": False}),
    Preference((QUESTION,), (ANSWER,), (Message("assistant", "It is 8."),), HERE),
    Text("A text <|im_end|> as it stands.", HERE),
    Feedback(Conversation((QUESTION, ANSWER), HERE), True, HERE),
]


def plain(made):
    """What can be compared of an example, a refused row or an error."""
    if isinstance(made, Example):
        arrays = [(one.ids.tobytes(), one.weights.tobytes()) for one in made.sequences]
        assert all(one.ids.dtype == np.int32 for one in made.sequences)
        return made.origin, made.cut, arrays
    return made if isinstance(made, BadRow) else (type(made), str(made))


def accounts(renderer):
    """What a renderer has counted and noted, in order."""
    return [
        [*renderer.counts.items()], [*renderer.controls.items()], [*renderer.left_out.items()],
        renderer.notices, renderer.stop_ids,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return open_folder(STARTER)


@pytest.fixture(scope="module")
def theirs(tokenizer):
    """The starter's template as somebody else would have written it, in a child."""
    renderer, notice = open_renderer(
        tokenizer, WANTED, setting="{# theirs #}" + tokenizer.chat_template, **CHAT
    )
    assert notice is None
    yield renderer
    renderer.rest()


def ours(tokenizer, **changed):
    source = "{# theirs #}" + tokenizer.chat_template
    template, _ = choose_template(
        tokenizer, setting=source, gallery_template=None, now=NOW, kwargs={}
    )
    return Renderer(tokenizer, template, **{**WANTED, **changed})


def test_a_template_of_others_is_not_compiled_here(theirs):
    assert isinstance(theirs, LimitedRenderer)
    assert not hasattr(theirs.template, "render")


def test_rows_of_every_kind_are_the_same_from_a_child(tokenizer, theirs):
    here = ours(tokenizer)
    assert theirs.facts == here.facts
    made = list(map(plain, theirs.render_each(ROWS * 2)))
    assert made == list(map(plain, here.render_each(ROWS * 2)))
    assert plain(theirs.render(ROWS[0])) == made[0]
    assert theirs.notices == here.notices


def test_counts_and_notices_are_those_of_a_renderer_here_in_the_same_order(tokenizer):
    here, wide = ours(tokenizer), open_renderer(tokenizer, WANTED, setting=None, **CHAT)[0]
    assert isinstance(wide, HelpedRenderer)
    made = list(in_children(wide, Crew(wide.crew._opening, most=2), ROWS * 20))
    assert list(map(plain, made)) == list(map(plain, here.render_each(ROWS * 20)))
    assert accounts(wide) == accounts(here)


def test_prompts_pieces_and_published_rows_are_the_same_from_a_child(tokenizer, theirs):
    here = ours(tokenizer)
    assert theirs.prompt([QUESTION]).tolist() == here.prompt([QUESTION]).tolist()
    mine, child = here.explain(ROWS[1]), theirs.explain(ROWS[1])
    as_lists = [
        [[(p.text, p.ids.tolist(), p.weight, p.kind) for p in s] for s in one]
        for one in (mine, child)
    ]
    assert as_lists[0] == as_lists[1]
    assert theirs.placed([QUESTION]) == here.placed([QUESTION])
    assert theirs.published(ROWS[0]) == here.published(ROWS[0])
    with pytest.raises(RowTemplateError):
        theirs.prompt([Message("user", object())])


def test_many_rows_of_a_file_are_prepared_the_same_with_two_children(tokenizer, monkeypatch):
    loaded = load_samples([str(STARTER / "data" / "sft_train.jsonl")])
    wide, _ = open_renderer(tokenizer, WANTED, setting=None, **CHAT)
    wide.crew.most = 2
    monkeypatch.setattr("luthier.data.limited.renderers._LOOK_S", 0.01)
    monkeypatch.setattr("luthier.data.limited.renderers._WORTH_S", 0.0)
    made = prepare(loaded, wide)
    assert made.fingerprint == prepare(loaded, ours(tokenizer)).fingerprint
    assert len(wide.crew._asked) == 2
    wide.rest()
    assert not wide.crew._asked


# -- limits


def with_limits(tokenizer, **limits):
    """A renderer of the starter's rows in a child with these limits."""
    told = {"setting": None, "gallery_template": None, "now": NOW.isoformat(), "kwargs": {}}
    crew = Crew(opening(tokenizer, told, WANTED), limits=ChildLimits(**limits), most=1)
    text, _ = choose_template(tokenizer, setting=None, gallery_template=None, now=NOW, kwargs={})
    return LimitedRenderer(crew, tokenizer, text, **WANTED)


def child_of(renderer):
    (process,) = renderer.crew._asked
    return psutil.Process(process.pid)


def test_a_row_that_is_late_is_named_and_the_others_go_on(tokenizer):
    renderer = with_limits(tokenizer, clock_s=1.0)
    child = child_of(renderer)
    child.suspend()
    made = list(renderer.render_each(ROWS[:3]))
    assert isinstance(made[0], TemplateError)
    assert made[0].what.startswith(
        "rows.jsonl line 3: the chat template or the tokenizer was stopped"
    )
    assert "more than 1 seconds" in made[0].what
    assert "4 GiB of memory" in made[0].why
    assert [type(one) for one in made[1:]] == [Example, Example]
    assert not child.is_running()


def test_a_child_that_somebody_ends_is_replaced_and_its_row_rendered(tokenizer):
    renderer = with_limits(tokenizer)
    child = child_of(renderer)
    child.kill()
    assert plain(renderer.render(ROWS[0])) == plain(ours(tokenizer).render(ROWS[0]))
    assert child_of(renderer).pid != child.pid


def test_no_more_than_three_rows_are_waited_for(tokenizer):
    renderer = with_limits(tokenizer, clock_s=0.2)
    renderer.crew.stops += [TemplateError("it takes more than 0.2 seconds")] * 3
    started = time.monotonic()
    made = list(renderer.render_each(ROWS * 50))
    assert all(isinstance(one, TemplateError) for one in made)
    assert time.monotonic() - started < 1.0


def bomb(folder, **parts):
    """The starter's tokenizer with other parts."""
    shutil.copytree(STARTER, folder, ignore=shutil.ignore_patterns("*.safetensors", "data"))
    definition = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps({**definition, **parts}), "utf-8")
    return folder


def test_a_tokenizer_that_multiplies_text_ends_at_its_memory(tmp_path, monkeypatch):
    grow = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 8}
    folder = bomb(tmp_path / "m", normalizer={"type": "Sequence", "normalizers": [grow] * 10})
    monkeypatch.setattr(
        "luthier.data.limited.crew.ChildLimits", lambda: ChildLimits(memory_bytes=GIB)
    )
    with pytest.raises(TokenizerError, match="stopped"):
        open_folder(folder).encode("e" * 1000)


def test_a_tokenizer_of_parts_that_are_not_known_encodes_the_same_in_a_child(tmp_path):
    parts = {"normalizer": {"type": "Replace", "pattern": {"String": "7"}, "content": "seven"}}
    folder = bomb(tmp_path / "m", **parts)
    limited, here = open_folder(folder), type(open_folder(STARTER)).from_folder(folder)
    assert isinstance(limited, LimitedTokenizer)
    text = "It is 7.<|im_end|>"
    assert limited.encode(text).tolist() == here.encode(text).tolist()
    assert limited.offsets(text) == here.offsets(text)
    both = [one.encode(text, parse_special=True).tolist() for one in (limited, here)]
    assert both[0] == both[1]
    assert limited.decode(both[0]) == here.decode(both[0])


PARENT = """
import sys, time
from tests.data.limited.test_limited_rendering import *
renderer = with_limits(open_folder(STARTER))
renderer.render(ROWS[0])
print(child_of(renderer).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread of the child looks")
def test_nothing_is_left_when_the_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        child.wait(timeout=5)
        assert not child.is_running()
