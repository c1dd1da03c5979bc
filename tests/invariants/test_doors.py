"""One row is the same row wherever it is looked at: before a run, in it, and after it."""

import json

import numpy as np
import pytest
from tests.tiny import tiny_model_folder

from luthier.config import read
from luthier.data.prepare import fingerprint
from luthier.data.rendering.truncate import chunks
from luthier.data.types import Example, Origin, Sequence
from luthier.engine.checkpoint import load_latest
from luthier.recipes.after.evaluate import evaluate_model
from luthier.recipes.after.known_rows import known_rows
from luthier.recipes.before.advise import gather
from luthier.recipes.before.check import check_data
from luthier.recipes.before.estimate import estimate
from luthier.recipes.before.planned import make_plan
from luthier.recipes.before.preview import preview, previews
from luthier.recipes.run.train import run
from luthier.sources.source import resolve_source
from luthier.worker import tasks

CONTEXT = 64
THINKING = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n"
    "</think>\n\n{% endif %}"
    "{{ m.content }}{% for call in m.tool_calls %}<call>{{ call.function | tojson }}</call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
LONG = "which strings does it have, and how are they tuned? " * 3
TOOLS = [{"type": "function", "function": {"name": "tune", "parameters": {"type": "object"}}}]


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def chats(**more):
    talks = [[said("user", q), said("assistant", "six")] for q in ("how many?", LONG, "and now?")]
    long = [said("user", LONG), said("assistant", "e a d g b e"), said("user", "so?")]
    talks.append([*long, said("assistant", "yes")])
    return [{"messages": talk, **more} for talk in talks]


def calls():
    call = {"type": "function", "function": {"name": "tune", "arguments": {"to": "a"}}}
    talk = [said("user", "now"), said("assistant", "", tool_calls=[call])]
    return [{"messages": talk, "tools": TOOLS}, *chats()]


def pairs():
    return [
        {"prompt": q, "chosen": "yes", "rejected": "no, not"} for q in ("it is?", LONG, "is it")
    ]


def texts():
    return [{"text": text} for text in ("a lute", LONG, "a lyre")]


CASES = {
    "rows longer than the model": (chats, {}),
    "a template that can be told not to think": (chats, {"chat_template": THINKING}),
    "calls of tools": (calls, {"chat_template": THINKING}),
    "pairs": (pairs, {"objective": "dpo", "chat_template": THINKING}),
    "texts": (texts, {"objective": "text"}),
}
LARGER = {"calls of tools": 140}


def examples_of(shown, chunk=None):
    """What the pieces that a person is shown add up to."""
    made = []
    for row in shown:
        if "bad" in row or row["dropped"]:
            continue
        sequences = []
        for pieces in row["sequences"]:
            kept = [
                (one, piece["weight"])
                for piece in pieces
                if not piece["cut"]
                for one in piece["ids"]
            ]
            ids, weights = zip(*kept, strict=True)
            sequences.append(Sequence(np.array(ids, np.int32), np.array(weights, np.float32)))
        if chunk:
            sequences = [part for whole in sequences for part in chunks(whole, chunk)]
        made.append(Example(tuple(sequences), Origin("", row["line"])))
    return made


@pytest.mark.parametrize("case", CASES)
def test_every_door_sees_the_same_rows(case, tmp_path):
    make, values = CASES[case]
    context = LARGER.get(case, CONTEXT)
    model = tiny_model_folder(tmp_path / "model", max_position_embeddings=context)
    data = tmp_path / "rows.jsonl"
    rows = make()
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {
        "model": str(model),
        "dataset": str(data),
        "method": "full",
        "learning_rate": 1e-3,
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "torch_dtype": "float32",
        "output_dir": str(tmp_path / "run"),
        **values,
    }
    resolved = read.load(given)
    settings = resolved.settings
    trained = run(resolved)

    # The run itself: ids and weights by their digest, cuts by its ledger.
    checkpoint = load_latest(trained.path / "checkpoints")
    assert checkpoint is not None
    learned = checkpoint.fingerprints["data"]
    report = json.loads((trained.path / "data.json").read_text())["train"]
    ledger = [json.loads(line) for line in (trained.path / "ledger.jsonl").read_text().splitlines()]

    shown = previews(settings, first=1, count=100)["rows"]
    text = settings.objective == "text"  # longer texts are not cut, but learned in several parts
    seen = examples_of(shown, chunk=context if text else None)
    assert fingerprint(seen) == learned
    assert max(len(one.ids) for row in seen for one in row.sequences) <= context
    cut = [row for row in shown if row["cut"]]
    assert bool(cut) != text
    assert len(cut) == report["rows"]["cut"] == len(ledger)
    assert [row["cut"]["prompt_tokens"] for row in cut] == [one["prompt_tokens"] for one in ledger]
    # `data show`, and the page's rows.
    for row in shown:
        assert preview(settings, row["line"])["sequences"] == row["sequences"]
    page = tasks.preview({"settings": given, "count": 100})
    assert page["rows"] == shown
    # The plan.
    shape = make_plan(given).data
    assert shape is not None
    assert fingerprint(shape.examples) == learned
    # Doctor, advice and estimate measure whole rows, and say which are cut.
    lengths = [row["tokens"] for row in shown]
    found = check_data(resolved).to_dict()
    limit = min(settings.seq_length, context)
    assert found["tokens"]["all"] == sum(map(sum, lengths))
    assert found["cuts"][str(limit)]["rows"] == sum(max(sizes) > limit for sizes in lengths)
    finding = {one["code"]: one for one in found["findings"]}.get("cut-at-seq-length")
    assert (finding["count"] if finding else 0) == len(cut)
    assert finding is None or f"cut to {limit}" in finding["detail"]
    facts = gather(resolved)
    assert facts.rows.longest == max(map(max, lengths))
    guess = estimate(settings)
    assert guess["tokens"] == sum(map(sum, lengths))
    assert guess["longest"] == max(map(max, lengths))
    # After the run: what is measured, and what a converted model is compared on.
    for name in [str(trained.path)] + ([] if settings.objective == "dpo" else [str(model)]):
        if name == str(model) and "chat_template" in values:
            continue  # a base is measured with its own template
        measured = evaluate_model(name, [str(data)], objective=settings.objective)
        assert measured.rows["cut"] == len(cut)
        assert measured.supervised_tokens == report["supervised_tokens"]
    exported = known_rows(resolve_source(str(trained.path))).examples
    assert fingerprint(exported) == fingerprint(seen[:4])


def test_a_base_is_measured_as_it_is_at_step_0_of_a_run_on_the_same_rows(tmp_path):
    model = tiny_model_folder(tmp_path / "model")
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": THINKING}))
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in chats()))
    trained = run(
        read.load(
            {
                "model": str(model),
                "dataset": str(data),
                "eval_dataset": str(data),
                "max_steps": 1,
                "torch_dtype": "float32",
                "lora_dim": 4,
                "output_dir": str(tmp_path / "run"),
            }
        )
    )
    measured = evaluate_model(str(model), [str(data)])
    assert measured.figures["model"]["loss"] == pytest.approx(trained.before["loss"], abs=1e-6)
    assert any("enable_thinking: false" in text for text in measured.notices)
