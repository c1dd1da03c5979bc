"""A row as the model sees it, on a terminal."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from luthier.cli.drawing.render import cell, clean, clean_lines, dump, line

LEGEND = "«learned»  ⟦cut⟧"
COLOURS = {"learned": "bold green", "control": "dim", "cut": "red strike"}


def row(shown: Mapping[str, Any], *, as_json: bool) -> None:
    """Learned text is green on a terminal and between « and » elsewhere; what truncation takes is
    struck out, or between ⟦ and ⟧."""
    if as_json:
        dump(shown)
        return
    line(f"{shown['row']}: tokens {cell(shown['tokens'])}, learned {cell(shown['learned'])}")
    for notice in (*shown["notices"], shown["dropped"] and f"dropped: {shown['dropped']}"):
        if notice:
            line(f"notice: {notice}")
    if cut := _cut(shown["cut"]):
        line(f"cut: {cut}")
    for place, pieces in enumerate(shown["sequences"]):
        line(_title(shown, place))
        _pieces(pieces)


def _title(shown: Mapping[str, Any], place: int) -> str:
    names = shown["names"]
    name = f" ({names[place]})" if names else ""
    title = f"--- sequence {place + 1} of {len(shown['sequences'])}{name}"
    if same := shown["shared"][place]:
        title += f", its first {same} tokens are computed once for all"
    return title


def _cut(cut: Mapping[str, int] | None) -> str:
    """What truncation took, in words."""
    if cut is None:
        return ""
    said = {"turns": "whole turns", "prompt_tokens": "tokens of the prompt", "answer_tokens": "tokens of the answer"}  # fmt: skip
    return ", ".join(f"{cut[name]} {text}" for name, text in said.items() if cut[name])


def _pieces(pieces: Iterable[Mapping[str, Any]]) -> None:
    if not sys.stdout.isatty():
        text = "".join(f"{before}{inner}{after}" for before, inner, after in _stretches(pieces))
        sys.stdout.write(clean_lines(text) + "\n")
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False).print(
        Text.assemble(*((clean(one["text"]), COLOURS.get(_look(one), "")) for one in pieces))
    )


def _look(piece: Mapping[str, Any]) -> str:
    if piece["cut"]:
        return "cut"
    return "learned" if piece["weight"] > 0 else str(piece["kind"])


def _stretches(pieces: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Neighbours of one look and weight joined, with their brackets."""
    joined: list[tuple[str, float, str]] = []
    for one in pieces:
        look = _look(one) if _look(one) in ("cut", "learned") else ""
        weight = float(one["weight"]) if look == "learned" else 0.0
        if joined and joined[-1][:2] == (look, weight):
            joined[-1] = (look, weight, joined[-1][2] + one["text"])
        else:
            joined.append((look, weight, one["text"]))
    for look, weight, text in joined:
        if look == "cut":
            yield "⟦", text, "⟧"
        elif look == "learned":
            yield "«", text, "»" if weight == 1 else f"»(weight {weight:g})"
        else:
            yield "", text, ""


def estimate(found: Mapping[str, Any]) -> None:
    """Token counts of a data set in a few lines."""
    exact = found["exact"]
    about = "" if exact else "about "
    line(
        f"{found['rows']:,} rows, {about}{found['tokens']:,} tokens, {found['learned']:,} of them learned"
    )
    if exact:
        line(f"  counted with the tokenizer and template of {found['tokenizer']}")
    else:
        mean, worst = f"{found['mean_error']:.0%}", f"{found['worst_error']:.0%}"
        more = "" if found["same_tokenizer"] else ", and more where the two tokenizers differ"
        line(f"  {found['tokenizer']}")
        line(f"  on files it had not seen off by {mean} on average, {worst} at worst{more}")
        line(f"  exact counts need the tokenizer: luthier gallery pull {found['model']}")
    if found["bad"]:
        line(f"  {found['bad']:,} rows cannot be used: luthier data check names them")
    shares = ", ".join(f"{p} % at most {n:,}" for p, n in found["percentiles"].items())
    line(f"  tokens of a row: {shares}; the longest {found['longest']:,}")
    over = ", ".join(f"{n:,} over {limit}" for limit, n in found["over"].items())
    line(f"  rows longer than a seq_length: {over}")
