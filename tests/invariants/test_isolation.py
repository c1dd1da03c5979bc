"""One sequence of a micro-batch must not move another's log-probabilities.

To the bit for dense models while the shape of the tree stays (at least 8 rows in every product, or
the library switches to other kernels); within 1e-5 where the shape changes, or where experts get
other numbers of tokens.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.invariants import reference as ref
from tests.invariants.product import Product, make_product, model_folder
from tests.invariants.test_parity import move
from tests.tiny import PACKABLE
from torch import Tensor

from luthier.data.packing.pack import pack
from luthier.data.types import Sequence

EXPERTS = ("mixtral", "qwen3_moe")
GATE = 1e-5
Score = Callable[[list[Sequence]], list[Tensor]]


def product_of(family: str, tmp_path: Path) -> Product:
    """A model with an adapter that matters, and eight rows."""
    folder = model_folder(tmp_path / family, family)
    made = make_product(folder, ref.conversations(4), tmp_path, lora_dim=8)
    move(made, 0)
    return made


def scores(product: Product, rows: list[Sequence], *, share: bool) -> list[Tensor]:
    """Log-probabilities of the targets of each row."""
    batch = pack(rows, share=share)
    with torch.no_grad():
        logp_S = product.trainee.score(batch).logp_S
    owner_S = torch.from_numpy(batch.target_sequence)
    return [logp_S[owner_S == index] for index in range(len(rows))]


def changed(row: Sequence, *, keep: int) -> Sequence:
    """The row with other tokens behind the first `keep`."""
    ids = row.ids.copy()
    ids[keep:] = (ids[keep:] + 7) % 255
    return Sequence(ids, row.weights)


@pytest.mark.parametrize("family", PACKABLE)
def test_tokens_of_one_row_move_no_bit_of_the_others(family, tmp_path):
    product = product_of(family, tmp_path)
    rows = [example.sequences[0] for example in product.examples]
    for share in (False, True):
        change_one_after_another(product, rows, family=family, share=share)


def change_one_after_another(
    product: Product, rows: list[Sequence], *, family: str, share: bool
) -> None:
    before = scores(product, rows, share=share)
    shape = pack(rows, share=share).nodes
    assert any(node.path for node in shape) == share
    for index in (0, 3, 7):
        answer = int(np.flatnonzero(rows[index].weights)[-1]) - 3
        other = [*rows]
        other[index] = changed(rows[index], keep=answer)
        assert pack(other, share=share).nodes == shape
        after = scores(product, other, share=share)
        assert not torch.equal(after[index], before[index])
        for number in set(range(len(rows))) - {index}:
            if family in EXPERTS:
                torch.testing.assert_close(after[number], before[number], atol=GATE, rtol=GATE)
            else:
                assert torch.equal(after[number], before[number]), (index, number)


@pytest.mark.parametrize("family", PACKABLE)
def test_a_row_scores_the_same_alone_and_among_others(family, tmp_path):
    product = product_of(family, tmp_path)
    rows = [example.sequences[0] for example in product.examples]
    among = scores(product, rows, share=True)
    fewer = scores(product, rows[::2], share=True)
    for index, row in enumerate(rows):
        (alone,) = scores(product, [row], share=False)
        torch.testing.assert_close(among[index], alone, atol=GATE, rtol=GATE)
    for index, found in enumerate(fewer):
        torch.testing.assert_close(found, among[2 * index], atol=GATE, rtol=GATE)


def test_an_unpacked_hybrid_keeps_every_bit_whatever_the_others_are(tmp_path):
    product = product_of("qwen3_next", tmp_path)
    assert not product.trainee.packed
    rows = [example.sequences[0] for example in product.examples]
    before = scores(product, rows, share=False)
    other = [*rows[:3], Sequence(rows[5].ids[:20], rows[3].weights[:20]), *rows[4:]]
    other[3].weights[-4:] = 1
    after = scores(product, other, share=False)
    for number in set(range(len(rows))) - {3}:
        assert torch.equal(after[number], before[number])
        (alone,) = scores(product, [rows[number]], share=False)
        assert torch.equal(alone, before[number])
