"""Loss and gradient of rows that were too long, against rows shortened by hand."""

from dataclasses import replace

import pytest
from tests.invariants import reference as ref
from tests.invariants.product import make_product, model_folder
from tests.invariants.test_parity import compare, copy_weights, move

LIMIT = 100
ASK = "of all the fast rivers that the old stones remember, which one sings to the red apples"
ANSWERS = ["the blue one ", "seven of them and a stone "]


def row(ask: str, answer: str) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": ask},
        {"role": "assistant", "content": answer},
    ]


def shortened(messages: list[dict[str, str]]) -> ref.Spelt:
    """The row with as many bytes taken off the start of the question as are too many."""
    excess = len(ref.spell(messages, everything=False).ids) - LIMIT
    assert 0 < excess < len(ASK)  # or the answer would be cut too
    system, ask, answer = messages
    return ref.spell(
        [system, {**ask, "content": ask["content"][excess:]}, answer], everything=False
    )


def ended(messages: list[dict[str, str]]) -> ref.Spelt:
    """The row's first tokens."""
    spelt = ref.spell(messages, everything=False)
    return replace(spelt, ids=spelt.ids[:LIMIT], weights=spelt.weights[:LIMIT])


@pytest.mark.parametrize("truncation", ["prompt_start", "answer_end"])
def test_gradient_of_rows_that_are_cut(truncation, tmp_path):
    keeps_answer = truncation == "prompt_start"
    rows = [row(ASK if keeps_answer else ASK[:30], answer + ASK[:30]) for answer in ANSWERS]
    folder = model_folder(tmp_path / "model", "llama")
    product = make_product(
        folder, rows, tmp_path, cut="tree", seq_length=LIMIT, truncation=truncation, lora_dim=8
    )
    assert all(len(example.sequences[0].ids) == LIMIT for example in product.examples)
    move(product, 0)
    reference = ref.Reference(folder)
    leaves = copy_weights(product, reference)
    found = product.one_step()
    cut = shortened if keeps_answer else ended
    loss = reference.sft_loss([cut(messages) for messages in rows])
    compare(f"SFT {truncation}", product, found, loss, leaves)
