"""A file that grows: every whole line once, in order, however it was cut and however long."""

import os

from luthier.runs import tail
from luthier.runs.tail import Tail, backwards


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


def test_whole_lines_are_given_once_and_a_torn_one_when_it_is_whole(tmp_path):
    path = tmp_path / "x"
    follow = Tail(path)
    assert list(follow.lines()) == []
    append(path, b"one\ntwo\nthr")
    assert list(follow.lines()) == [b"one", b"two"]
    assert follow.offset == 8
    append(path, b"ee\n\nfour\n")
    assert list(follow.lines()) == [b"three", b"", b"four"]
    assert list(follow.lines()) == []


def test_it_goes_on_from_a_byte(tmp_path):
    path = tmp_path / "x"
    append(path, b"of an earlier attempt\nnew\n")
    assert list(Tail(path, 22).lines()) == [b"new"]


def test_lines_across_pieces_of_reading_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "CHUNK_BYTES", 7)
    path = tmp_path / "x"
    lines = [b"%d" % n * (n % 9) for n in range(100)]
    append(path, b"\n".join(lines) + b"\n")
    follow = Tail(path)
    assert list(follow.lines()) == lines
    assert follow.offset == path.stat().st_size


def test_a_line_above_the_limit_is_left_out_and_the_next_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "MAX_LINE_BYTES", 20)
    monkeypatch.setattr(tail, "CHUNK_BYTES", 8)
    path = tmp_path / "x"
    append(path, b"short\n" + b"z" * 50 + b"\n" + b"y" * 20 + b"\nend\n")
    assert list(Tail(path).lines()) == [b"short", b"y" * 20, b"end"]


def test_another_file_in_its_place_is_noticed_and_a_missing_one_is_none(tmp_path):
    path = tmp_path / "x"
    follow = Tail(path)
    assert not follow.replaced()
    append(path, b"one\n")
    assert not follow.replaced()
    assert list(follow.lines()) == [b"one"]
    other = tmp_path / "y"
    append(other, b"longer than the other\n")
    os.replace(other, path)
    assert follow.replaced()
    path.write_bytes(b"")
    assert follow.replaced()
    path.unlink()
    assert follow.replaced()


def test_lines_are_read_backwards_across_blocks(tmp_path):
    path = tmp_path / "x"
    lines = [b"%d " % n * (n % 3000) for n in range(1, 400)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    found = list(backwards(path))
    assert [line for _, line in found] == lines[::-1]
    offset, line = found[100]
    assert path.read_bytes()[offset:].startswith(line)
    assert [line for _, line in backwards(path, offset)] == lines[::-1][101:]
