"""The packed prefix tree: nothing lost, nothing counted twice, nothing predicted across a boundary."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.packing.pack import PackedBatch, pack
from luthier.data.packing.trie import grow
from luthier.data.types import Sequence
from luthier.errors import NoTargetsError


def sequence(ids: list[int], weights: list[float] | None = None) -> Sequence:
    weights = [0.0, *[1.0] * (len(ids) - 1)] if weights is None else weights
    return Sequence(np.array(ids, dtype=np.int32), np.array(weights, dtype=np.float32))


@st.composite
def sequences(draw: st.DrawFn) -> list[Sequence]:
    """Few tokens and common beginnings, so that trees are deep; some rows learn nothing."""
    stems = draw(st.lists(st.lists(st.integers(0, 2), max_size=12), min_size=1, max_size=3))
    made = []
    for _ in range(draw(st.integers(1, 7))):
        stem = draw(st.sampled_from(stems))
        ids = [*stem[: draw(st.integers(0, 12))], *draw(st.lists(st.integers(0, 2), max_size=9))]
        ids = ids or [0]
        choice = st.sampled_from([0.0, 0.0, 0.5, 1.0])
        weights = [0.0, *(draw(choice) for _ in ids[1:])]
        made.append(sequence(ids, weights))
    return made


anything = given(sequences(), st.booleans(), st.integers(1, 20))


def packed(rows: list[Sequence], share: bool, min_shared: int) -> PackedBatch | None:
    if not any(row.weights[1:].any() for row in rows):
        with pytest.raises(NoTargetsError):
            pack(rows, share=share, min_shared=min_shared)
        return None
    return pack(rows, share=share, min_shared=min_shared)


def history(batch: PackedBatch, row: int) -> list[int]:
    """The ids from the root to a row, read along the path of its node."""
    node = next(node for node in batch.nodes if node.start <= row < node.stop)
    rows = [r for start, stop in node.path for r in range(start, stop)]
    return batch.ids[[*rows, *range(node.start, row + 1)]].tolist()


@settings(max_examples=150, deadline=None)
@anything
def test_every_target_is_predicted_from_its_own_history(
    rows: list[Sequence], share: bool, min_shared: int
) -> None:
    batch = packed(rows, share, min_shared)
    if batch is None:
        return
    wanted = [
        (index, row.ids[: t + 1].tolist(), int(row.ids[t]), float(row.weights[t]))
        for index, row in enumerate(rows)
        for t in range(1, len(row.ids))
        if row.weights[t]
    ]
    found = [
        (int(s), [*history(batch, int(r)), int(token)], int(token), float(w))
        for r, token, w, s in zip(
            batch.target_row,
            batch.target_token,
            batch.target_weight,
            batch.target_sequence,
            strict=True,
        )
    ]
    assert found == wanted  # the order too: sequences as given, each from left to right
    assert batch.units == pytest.approx(sum(w for *_, w in wanted))


@settings(max_examples=150, deadline=None)
@anything
def test_the_layout_is_a_tree_in_one_row(
    rows: list[Sequence], share: bool, min_shared: int
) -> None:
    batch = packed(rows, share, min_shared)
    if batch is None:
        return
    assert [node.start for node in batch.nodes] == [0, *(node.stop for node in batch.nodes[:-1])]
    assert batch.nodes[-1].stop == len(batch.ids) == len(batch.positions) == len(batch.sample_T)
    spans = {(node.start, node.stop) for node in batch.nodes}
    for node in batch.nodes:
        depth = sum(stop - start for start, stop in node.path)
        positions = batch.positions[node.start : node.stop]
        assert positions.tolist() == list(range(depth, depth + node.stop - node.start))
        assert set(node.path) <= spans
    keys = [
        row
        for node in batch.nodes
        for span in (*node.path, (node.start, node.stop))
        for row in range(*span)
    ]
    assert batch.kv_index.tolist() == keys
    assert batch.cu_k[-1] == len(keys)
    assert np.diff(batch.cu_q).tolist() == [node.stop - node.start for node in batch.nodes]


@settings(max_examples=150, deadline=None)
@anything
def test_sharing_never_adds_a_row_and_min_shared_is_kept(
    rows: list[Sequence], share: bool, min_shared: int
) -> None:
    batch, apart = packed(rows, share, min_shared), packed(rows, False, min_shared)
    if batch is None or apart is None:
        return
    assert len(batch.ids) <= len(apart.ids)
    children = Counter(node.path[-1] for node in batch.nodes if node.path)
    for (start, stop), count in children.items():
        ends_here = sum(1 for last in _last_rows(batch, len(rows)).values() if start <= last < stop)
        if count + ends_here > 1:
            assert (stop - start) * (count + ends_here - 1) >= min_shared
    if not share:
        assert all(not node.path for node in batch.nodes)
    if share and min_shared == 1:
        distinct = {tuple(row.ids[:n].tolist()) for row in rows for n in _laid_out(row)}
        assert len(batch.ids) == len(distinct)


def _last_rows(batch: PackedBatch, count: int) -> dict[int, int]:
    found = {}
    for row, owner in zip(batch.target_row.tolist(), batch.target_sequence.tolist(), strict=True):
        found[owner] = row
    return found


def _laid_out(row: Sequence) -> range:
    """Lengths of the prefixes that some target is predicted from, or lies before one that is."""
    supervised = np.flatnonzero(row.weights[1:])
    return range(1, int(supervised[-1]) + 2) if len(supervised) else range(0)


@settings(max_examples=100, deadline=None)
@given(sequences(), st.randoms(use_true_random=False))
def test_the_order_of_sequences_changes_only_the_layout(
    rows: list[Sequence], random: object
) -> None:
    if (batch := packed(rows, True, 3)) is None:
        return
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    other = pack([rows[i] for i in order], min_shared=3)
    assert len(other.ids) == len(batch.ids)
    assert Counter(other.ids.tolist()) == Counter(batch.ids.tolist())


def test_a_branch_point_predicts_one_target_per_child() -> None:
    batch = pack([sequence([5, 6, 7, 8]), sequence([5, 6, 9, 4])], min_shared=1)
    assert batch.ids.tolist() == [5, 6, 7, 9]
    assert batch.positions.tolist() == [0, 1, 2, 2]
    assert batch.nodes == ((0, 2, ()), (2, 3, ((0, 2),)), (3, 4, ((0, 2),)))
    assert batch.target_row.tolist() == [0, 1, 2, 0, 1, 3]
    assert batch.target_token.tolist() == [6, 7, 8, 6, 9, 4]
    assert batch.target_sequence.tolist() == [0, 0, 0, 1, 1, 1]


def test_nothing_behind_the_last_target_is_laid_out() -> None:
    batch = pack([sequence([1, 2, 3, 4, 5], [0, 0, 1, 0, 0])])
    assert batch.ids.tolist() == [1, 2]
    assert batch.target_token.tolist() == [3]


def test_identical_sequences_share_every_row_and_no_target() -> None:
    row = sequence(list(range(20)))
    batch = pack([row, row, row])
    assert len(batch.nodes) == 1
    assert batch.ids.tolist() == list(range(19))
    assert len(batch.target_row) == 3 * 19


def test_a_sequence_without_targets_takes_no_row() -> None:
    batch = pack([sequence([1, 2], [0, 0]), sequence([3, 4])])
    assert batch.ids.tolist() == [3]
    assert batch.target_sequence.tolist() == [1]
    assert batch.num_sequences == 2


def test_samples_follow_the_tokens() -> None:
    rows = [sequence([5] * 20 + [6, 7, 8]), sequence([5] * 20 + [9, 4]), sequence([1, 2])]
    apart = pack(rows, share=False, sample_ids=[7, 7, 3])
    assert apart.sample_T.tolist() == [7] * 22 + [7] * 21 + [3]
    shared = pack(rows, sample_ids=[4, 9, 3])
    assert shared.sample_T.tolist() == [4] * 20 + [4] * 2 + [9] + [3]
    assert shared.sequence_samples.tolist() == [4, 9, 3]


def test_the_layout_does_not_depend_on_the_values_of_tokens() -> None:
    """Changing a token moves no other row as long as the shape of the tree stays."""
    stem = [5] * 20
    low = pack([sequence([*stem, 50, 1]), sequence([*stem, 3, 1]), sequence([*stem, 99, 1])])
    high = pack([sequence([*stem, 50, 1]), sequence([*stem, 70, 1]), sequence([*stem, 99, 1])])
    assert low.nodes == high.nodes
    assert low.ids.tolist() == [*stem, 50, 3, 99]
    assert high.ids.tolist() == [*stem, 50, 70, 99]


def test_the_saving_counts_every_child() -> None:
    rows = [np.array([1] * 5 + [10 + i] * 4, dtype=np.int32) for i in range(5)]
    assert grow(rows[:4], share=True).num_tokens == 4 * 9  # 5 * 3 < 16
    assert grow(rows, share=True).num_tokens == 5 + 5 * 4  # 5 * 4 >= 16
