"""Patterns of module names, matched in time linear in the name.

A pattern comes from the file of an adapter or of settings, written by anybody.  Python's engine tries
one way after the other and can take for ever; here every way is followed at once, as a set of
states, so that a name costs at most its length times the states.  What is read is the part of
regular expressions that adapters use: characters, `.`, classes, groups, `|`, `* + ? {m,n}`, `^ $`.
Look-ahead, back-references and flags are refused by name.

Source: Thompson 1968, Regular expression search algorithm; PEFT's `get_pattern_key` for `Suffix`.
"""

import re
import string
from collections.abc import Callable, Iterator
from typing import Any

from luthier.limits import PATTERN_CHARS, PATTERN_STATES

_LETTERS = frozenset(string.ascii_letters + string.digits + "_")
_CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "D": lambda c: not c.isdecimal(),
    "w": lambda c: c.isalnum() or c == "_",
    "W": lambda c: not (c.isalnum() or c == "_"),
    "s": str.isspace,
    "S": lambda c: not c.isspace(),
}
_START, _END = "start", "end"
_ENDS = {"^": _START, "$": _END, "A": _START, "Z": _END}


class PatternError(ValueError):
    """The pattern is malformed, too large, or uses what is not read; the message is a clause."""


Accepts = Callable[[str], bool]
Node = tuple[Any, ...]
"""("one", accepts), ("end", which), ("all", [nodes]), ("any", [nodes]), ("repeat", node, least, most)."""


class Pattern:
    """A compiled pattern.

    Args:
        text: At most `PATTERN_CHARS` characters.

    Raises:
        PatternError: It cannot be read.
    """

    def __init__(self, text: str) -> None:
        if len(text) > PATTERN_CHARS:
            raise PatternError(
                f"it has {len(text):,} characters; at most {PATTERN_CHARS:,} are read"
            )
        self._edges: list[tuple[str, Any, int, int]] = []  # kind, what it needs, next, other next
        tree = _Parser(text).parse()
        self._last = self._add("accept", None, -1, -1)
        self._first = self._build(tree, self._last)

    @property
    def num_states(self) -> int:
        """What a character of a name costs at most."""
        return len(self._edges)

    def fullmatch(self, text: str) -> bool:
        """Whether the whole of a text is one that the pattern describes."""
        states = self._close([self._first], at_start=True, at_end=not text)
        for at, character in enumerate(text):
            following = [
                self._edges[state][2]
                for state in states
                if self._edges[state][0] == "one" and self._edges[state][1](character)
            ]
            states = self._close(following, at_start=False, at_end=at + 1 == len(text))
            if not states:
                return False
        return self._last in states

    def _add(self, kind: str, needs: Any, following: int, other: int) -> int:
        if len(self._edges) >= PATTERN_STATES:
            raise PatternError(f"it needs more than {PATTERN_STATES:,} states")
        self._edges.append((kind, needs, following, other))
        return len(self._edges) - 1

    def _build(self, node: Node, following: int) -> int:
        """The first state of what matches `node` and goes on at `following`."""
        kind = node[0]
        if kind in ("one", "end"):
            return self._add(kind, node[1], following, -1)
        if kind == "all":
            for part in reversed(node[1]):
                following = self._build(part, following)
            return following
        if kind == "any":
            first = self._build(node[1][0], following)
            for part in node[1][1:]:
                first = self._add("split", None, first, self._build(part, following))
            return first
        _, inner, least, most = node
        if most is None:
            loop = self._add("split", None, following, -1)
            self._edges[loop] = ("split", None, self._build(inner, loop), following)
            following = loop
        for _ in range((most or least) - least):
            following = self._add("split", None, self._build(inner, following), following)
        for _ in range(least):
            following = self._build(inner, following)
        return following

    def _close(self, states: list[int], *, at_start: bool, at_end: bool) -> set[int]:
        """Every state that is reached without a character."""
        reached: set[int] = set()
        waiting = states
        while waiting:
            state = waiting.pop()
            if state in reached:
                continue
            reached.add(state)
            kind, needs, following, other = self._edges[state]
            if kind == "split":
                waiting += [following, other]
            elif kind == "end" and (at_start if needs == _START else at_end):
                waiting.append(following)
        return reached


class Suffix:
    """A pattern as PEFT takes the keys of `rank_pattern`: the end of a name, after a dot or whole."""

    def __init__(self, text: str) -> None:
        self._literal = re.sub(r"\\([^\w\s])", r"\1", text)
        plain = not re.search(r"[*+?^$|()\[\]{}\\]", re.sub(r"\\[^\w\s]", "", text))
        self._pattern = None if plain else Pattern(f"(.*\\.)?({text})")

    @property
    def num_states(self) -> int:
        """What a character of a name costs at most; 0 for a plain name."""
        return self._pattern.num_states if self._pattern else 0

    def matches(self, name: str) -> bool:
        """Whether a module of this name is meant."""
        if name == self._literal or name.endswith("." + self._literal):
            return True
        return self._pattern is not None and self._pattern.fullmatch(name)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0

    def parse(self) -> Node:
        tree = self._either()
        if self._at < len(self._text):
            raise PatternError(f"a ) at character {self._at + 1} closes nothing")
        return tree

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        if self._at >= len(self._text):
            raise PatternError("it ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _either(self) -> Node:
        ways = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else ("any", ways)

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return ("all", parts)

    def _repeated(self, node: Node) -> Node:
        times = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        mark = self._peek()
        if mark in times and mark:
            self._at += 1
            node = ("repeat", node, *times[mark])
        elif mark == "{" and (counts := self._counts()):
            node = ("repeat", node, *counts)
        else:
            return node
        if self._peek() == "?":  # which match is found first is of no matter for a whole name
            self._at += 1
        if self._peek() in ("*", "+", "?"):
            raise PatternError(f"it repeats a repetition at character {self._at + 1}")
        return node

    def _counts(self) -> tuple[int, int | None] | None:
        stop = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : stop].partition(",")
        numbers = [number for number in (least, most) if number]
        if stop < 0 or not least or not all(n.isdecimal() and len(n) <= 4 for n in numbers):
            return None  # a brace that is a character
        self._at = stop + 1
        low = int(least)
        high = low if not comma else int(most) if most else None
        if high is not None and high < low:
            raise PatternError(f"{{{least},{most}}} is empty")
        return low, high

    def _atom(self) -> Node:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return ("one", self._class())
        if character == ".":
            return ("one", lambda c: c != "\n")
        if character in "^$":
            return ("end", _ENDS[character])
        if character == "\\":
            return self._escaped()
        if character in "*+?":
            raise PatternError(f"a {character} at character {self._at} repeats nothing")
        return ("one", character.__eq__)

    def _group(self) -> Node:
        self._depth += 1
        if self._depth > 50:
            raise PatternError("its groups are nested more than 50 deep")
        if self._peek() == "?":
            if self._text[self._at : self._at + 2] != "?:":
                raise PatternError(
                    f"(?{self._text[self._at + 1 : self._at + 3]} is not read: only plain groups are"
                )
            self._at += 2
        tree = self._either()
        if self._peek() != ")":
            raise PatternError("a ( is never closed")
        self._at += 1
        self._depth -= 1
        return tree

    def _escaped(self) -> Node:
        character = self._take()
        if character in ("A", "Z"):
            return ("end", _ENDS[character])
        if character in _CLASSES:
            return ("one", _CLASSES[character])
        if character in _LETTERS:
            raise PatternError(f"\\{character} is not read")
        return ("one", character.__eq__)

    def _class(self) -> Accepts:
        inverted = self._peek() == "^"
        self._at += inverted
        tests = list(self._members())
        return lambda c: any(test(c) for test in tests) != inverted

    def _members(self) -> Iterator[Accepts]:
        first = True
        while first or self._peek() != "]":
            first = False
            low = self._take()
            if low == "\\":
                low = self._take()
                if low in _CLASSES:
                    yield _CLASSES[low]
                    continue
                if low in _LETTERS:
                    raise PatternError(f"\\{low} is not read in a class")
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._take()
                high = self._take() if high == "\\" else high
                if high < low:
                    raise PatternError(f"the range {low}-{high} is empty")
                yield _between(low, high)
            else:
                yield low.__eq__
        self._at += 1


def _between(low: str, high: str) -> Accepts:
    return lambda c: low <= c <= high
