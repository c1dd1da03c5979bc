"""How often the first guess at an encoding is right, over real text of 200 and of 20,000 bytes.

`python bench/encodings.py` re-encodes text of the shared data (`LUTHIER_SHARED`) and writes
bench/results/encodings.md.  For every piece it is also tried whether `luthier data fix` would write a
file from a guess, which it must not.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from luthier.data.doctor.fix import fix
from luthier.data.reading.encodings import candidates
from luthier.errors import LuthierError

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("LUTHIER_SHARED", ROOT.parent / "shared" / "data"))
OUT = ROOT / "bench" / "results" / "encodings.md"
SIZES = {200: 10, 20_000: 2}  # bytes of a piece: pieces of it
LETTERS = {
    "Chinese": ("[\u4e00-\u9fff]", 0.5),
    "Japanese": ("[\u3041-\u30ff]", 0.3),
    "Korean": ("[\uac00-\ud7a3]", 0.3),
    "Russian": ("[\u0430-\u044f]", 0.3),
    "Thai": ("[\u0e01-\u0e4e]", 0.3),
    "Arabic": ("[\u0621-\u064a]", 0.3),
    "Turkish": ("[\u011f\u0131\u015f]", 0.02),
    "Vietnamese": ("[\u1ea1-\u1ef9]", 0.02),
    "French": ("[\u00e9\u00e8\u00ea\u00e0\u00e7]", 0.02),
    "Spanish": ("[\u00f1\u00bf\u00a1\u00e1\u00f3]", 0.02),
    "German": ("[\u00e4\u00f6\u00fc\u00df]", 0.02),
}
"""Letters that tell a language, and the share of a text that they make up at least."""

TRIED = [
    *(("utf-16", name) for name in ("Chinese", "French")),
    *(("utf-16-le", name) for name in ("Chinese", "French")),
    ("utf-32", "Russian"), ("gb18030", "Chinese"), ("euc_jp", "Japanese"), ("shift_jis", "Japanese"),
    ("euc_kr", "Korean"), ("cp1251", "Russian"), ("koi8_r", "Russian"), ("iso8859_5", "Russian"),
    ("cp866", "Russian"), ("mac_cyrillic", "Russian"), ("cp1252", "French"), ("iso8859_1", "Spanish"),
    ("iso8859_15", "German"), ("mac_roman", "French"), ("cp1254", "Turkish"), ("iso8859_9", "Turkish"),
    ("cp1256", "Arabic"), ("tis_620", "Thai"), ("cp874", "Thai"), ("cp1258", "Vietnamese"),
]  # fmt: skip


def texts(value: object) -> Iterator[str]:
    """Every text of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def corpus() -> dict[str, str]:
    """Real text by language, one line a text."""
    found: dict[str, list[str]] = {name: [] for name in LETTERS}
    for path in sorted(SHARED.glob("*/*.json*")):
        for text in texts(_values(path)):
            for name, (letters, share) in LETTERS.items():
                if len(re.findall(letters, text)) > share * len(text):
                    found[name].append(" ".join(text.split()))
    return {name: "\n".join(dict.fromkeys(lines)) for name, lines in found.items()}


def _values(path: Path) -> list[object]:
    """The JSON values of a file; what is none (some files are wrong on purpose) is left out."""
    body = path.read_text("utf-8")
    found = []
    for row in [body] if path.suffix == ".json" else body.split("\n"):
        with contextlib.suppress(ValueError):
            found.append(json.loads(row))
    return found


def pieces(text: str, encoding: str, size: int, most: int) -> Iterator[tuple[bytes, str]]:
    """Up to `most` pieces of about so many bytes, of the characters that the encoding has."""
    kept = text.encode(encoding, "ignore").decode(encoding)
    wide = max(1, len(kept.encode(encoding)) // max(1, len(kept)))
    length = size // wide
    step = max(length, len(kept) // most)
    for start in range(0, max(1, len(kept) - length // 2), step):
        piece = kept[start : start + length]
        if not piece.isascii():
            yield piece.encode(encoding), piece


def measure(encoding: str, text: str, size: int, most: int) -> tuple[int, int, int, int]:
    """Pieces, those whose first guess is right, those with the right one among three, files written."""
    number = first = three = written = 0
    for sample, piece in pieces(text, encoding, size, most):
        guesses = [one.encoding for one in candidates(sample)]
        right = [_reads(sample, guess) == piece for guess in guesses]
        number, first, three = number + 1, first + right[:1].count(True), three + any(right)
        written += not encoding.startswith("utf") and _is_written(sample)
    return number, first, three, written


def _reads(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_written(sample: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "rows.csv", Path(folder) / "fixed.jsonl"
        path.write_bytes(b'prompt,completion\nask,"' + sample.replace(b'"', b"'") + b'"\n')
        try:
            fix(path, output)
        except LuthierError:
            return False
        return output.exists()


def main() -> None:
    """Write the table."""
    known = corpus()
    lines = [
        "# How often the first guess at an encoding is right\n",
        "Real text of the shared data, encoded anew; ten pieces of 200 bytes and two of 20,000 where there is so much. A guess is shown and never "
        "used: `written` counts files that `luthier data fix` wrote from one.\n",
        "| encoding | language | bytes | pieces | first right | among three | written |",
        "|---|---|---|---|---|---|---|",
    ]
    for encoding, language in TRIED:
        for size, most in SIZES.items():
            number, first, three, written = measure(encoding, known[language], size, most)
            if number:
                cells = (encoding, language, f"{size:,}", number, first, three, written)
                lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines.append(
        "\nPython has no codec of VISCII and TCVN3: text in them is never read, nor guessed right. Where a "
        "language has less text than 20,000 bytes, all of it is one piece."
    )
    OUT.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
