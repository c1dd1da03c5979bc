"""Figures on real rows equal those of a few lines with transformers alone."""

import csv
import json
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from luthier.planner.choose import choose_dtype
from luthier.recipes.after.evaluate import evaluate_model
from luthier.recipes.run.devices import DTYPES, facts_of, torch_device
from luthier.sources.source import resolve_source

ROWS, NEW = 8, 16


@pytest.fixture(scope="module")
def alone():
    """The starter as anybody opens it."""
    folder = str(resolve_source("starter").base)
    dtype = DTYPES[choose_dtype("auto", facts_of(torch_device()))[0]]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def head(path, here, take):
    """The first rows that fit into the 512 tokens of the starter, in a file of their own."""
    lines = [line for line in path.read_text("utf-8").split("\n") if line.strip()]
    kept = [line for line in lines if take(line)][:ROWS]
    (here / path.name).write_text("\n".join(kept) + "\n", "utf-8")
    return str(here / path.name), kept


def prompt_of(tokenizer, user):
    asked = [{"role": "user", "content": user}]
    return tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)


@torch.no_grad()
def logps(alone, prompt, answer, *, ended):
    """Log-probability of each token of an answer, with that of its end if asked for."""
    model, tokenizer = alone
    begin = tokenizer(prompt, add_special_tokens=False).input_ids
    tokens = tokenizer(answer, add_special_tokens=False).input_ids
    tokens = tokens + [tokenizer.eos_token_id] * ended
    logits = model(torch.tensor([begin + tokens])).logits[0, len(begin) - 1 : -1]
    logp = logits.float().log_softmax(-1)
    return logp[range(len(tokens)), tokens]


def of(found):
    return found.measured[0].rows, found.measured[0].figures


def test_gsm8k(shared, tmp_path, alone):
    model, tokenizer = alone
    path, lines = head(
        shared("benchmarks/gsm8k_train_2500.jsonl"), tmp_path, lambda line: len(line) < 500
    )
    found, figures = of(evaluate_model("starter", [path], max_new_tokens=NEW))
    assert figures["numeric"] == 0.0  # it is a small model
    written = []
    for line, row in zip(lines, found, strict=True):
        ids = tokenizer(
            prompt_of(tokenizer, json.loads(line)["question"]),
            add_special_tokens=False,
            return_tensors="pt",
        ).input_ids
        out = model.generate(ids, max_new_tokens=NEW, do_sample=False)[0, ids.shape[1] :]
        written.append(tokenizer.decode(out, skip_special_tokens=True).strip())
        assert row.answer == written[-1]

    # The same questions, with answers that every other row has got right.
    changed = []
    for n, (line, answer) in enumerate(zip(lines, written, strict=True)):
        numbers = re.findall(r"\d+", answer) or ["17"]
        right = numbers[-1] if n % 2 else "123456"
        changed.append({**json.loads(line), "answer": f"so\n#### {right}"})
    (tmp_path / "changed.jsonl").write_text("\n".join(map(json.dumps, changed)))
    told, figures = of(
        evaluate_model("starter", [str(tmp_path / "changed.jsonl")], max_new_tokens=NEW)
    )
    expected = [n % 2 and bool(re.findall(r"\d+", a)) for n, a in enumerate(written)]
    assert [row.figure("numeric") for row in told] == expected
    assert figures["numeric"] == pytest.approx(sum(expected) / ROWS)


def test_choice_by_text_plain_and_by_character(shared, tmp_path, alone):
    path, lines = head(shared("benchmarks/xcopa_vi_val.jsonl"), tmp_path, bool)
    found, figures = of(evaluate_model("starter", [path]))
    plain, by_char = [], []
    asks = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
    for line in lines:
        row = json.loads(line)
        prompt = prompt_of(alone[1], f"{row['premise']}\n{asks[row['question']]}")
        options = [row["choice1"], row["choice2"]]
        sums = [float(logps(alone, prompt, option, ended=False).sum()) for option in options]
        plain.append(sums[1] > sums[0])
        by_char.append(sums[1] / len(options[1]) > sums[0] / len(options[0]))
    labels = [json.loads(line)["label"] for line in lines]
    assert [row.figure("choice") for row in found] == [
        a == b for a, b in zip(plain, labels, strict=True)
    ]
    assert figures["choice"] == pytest.approx(sum(map(int.__eq__, map(int, plain), labels)) / ROWS)
    right = [int(a == b) for a, b in zip(by_char, labels, strict=True)]
    assert [row.figure("choice_norm") for row in found] == right
    assert 0 < figures["choice"] < 1


def test_choice_by_letter(shared, tmp_path, alone):
    source = shared("benchmarks/tcm_choice_herb_500.csv")
    with source.open(encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))[:ROWS]
    path = tmp_path / "choice.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    found, figures = of(evaluate_model("starter", [str(path)]))
    right = []
    for row in rows:
        listed = "\n".join(f"{letter}. {row[letter].strip()}" for letter in "ABCDE")
        prompt = prompt_of(alone[1], f"{row['question']}\n{listed}\nAnswer:")
        sums = [float(logps(alone, prompt, letter, ended=False).sum()) for letter in "ABCDE"]
        right.append("ABCDE"[sums.index(max(sums))] == row["answer"])
    assert [bool(row.figure("choice")) for row in found] == right
    assert figures["choice"] == pytest.approx(sum(right) / ROWS)


def test_preference_loss_and_token_accuracy(shared, tmp_path, alone):
    def fits(line):
        row = json.loads(line)
        turns = row["conversations"]
        text = turns[0]["value"] + max(row["chosen"], row["rejected"], key=len)
        return [turn["from"] for turn in turns] == ["human"] and len(text) < 140

    path, lines = head(shared("preference/dpo_zh_500.jsonl"), tmp_path, fits)
    assert len(lines) == ROWS
    found, figures = of(evaluate_model("starter", [path]))
    plain, by_token, nats, tokens = [], [], 0.0, 0
    chats = []
    for line in lines:
        row = json.loads(line)
        asked = row["conversations"][0]["value"]
        prompt = prompt_of(alone[1], asked)
        chosen, rejected = (
            logps(alone, prompt, row[side], ended=True) for side in ("chosen", "rejected")
        )
        plain.append(bool(chosen.sum() > rejected.sum()))
        by_token.append(bool(chosen.mean() > rejected.mean()))
        nats, tokens = nats - float(chosen.double().sum()), tokens + len(chosen)
        chats.append({"prompt": asked, "completion": row["chosen"]})
    assert [bool(row.figure("preference")) for row in found] == plain
    assert [bool(row.figure("preference_norm")) for row in found] == by_token
    assert figures["preference"] == pytest.approx(sum(plain) / len(plain))
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)))
    _, figures = of(evaluate_model("starter", [str(tmp_path / "chats.jsonl")], metrics=["loss"]))
    assert figures["loss"] == pytest.approx(nats / tokens, abs=1e-4)
