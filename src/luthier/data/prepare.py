"""All rows of a run to examples, with an account of every row that was cut or dropped."""

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from luthier.data.formats.paste import as_flag
from luthier.data.rendering import truncate
from luthier.data.rendering.kept import BESIDE_CALLS, EARLIER_TEXTS, EARLIER_THOUGHTS, TOOL_PARTS
from luthier.data.rendering.render import Renderer
from luthier.data.types import BadRow, Example, LongRow, Preference, Sample
from luthier.errors import BadRowsError, DataError, NoRowsError, NoTargetsError, TooLongError

BadRows = Literal["drop", "refuse"]
ALLOWED_SHARE = 0.01
_LISTED = 20


class _File(Protocol):
    @property
    def path(self) -> Any: ...
    @property
    def sha256(self) -> str: ...
    @property
    def rows(self) -> int: ...


class LoadedRows(Protocol):
    """What `prepare` needs of loaded data."""

    @property
    def samples(self) -> Items[Sample]: ...
    @property
    def mix(self) -> Mapping[str, int]: ...
    @property
    def bad(self) -> Items[BadRow]: ...
    @property
    def files(self) -> Items[_File]: ...
    @property
    def unused(self) -> Mapping[str, int]: ...
    @property
    def notices(self) -> Items[str]: ...
    @property
    def columns(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """The examples of a run and their account.

    Attributes:
        report: For data.json.
        ledger: For ledger.jsonl: one entry per row that was cut or dropped.
        fingerprint: SHA-256 over all ids and weights in order.
    """

    examples: list[Example]
    report: dict[str, Any]
    ledger: list[dict[str, object]]
    notices: list[str]
    fingerprint: str


@dataclass(slots=True)
class _Account:
    examples: list[Example] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    long: list[LongRow] = field(default_factory=list)


def prepare(
    loaded: LoadedRows,
    renderer: Renderer,
    *,
    bad_rows: BadRows = "drop",
    role: str = "train",
) -> Prepared:
    """Render every sample, apply the rules for bad and long rows, and write the account.

    Args:
        role: What the rows are for, `train` or `eval`: the messages name it.

    Raises:
        BadRowsError: `refuse` and a bad row, or more than 1 % bad rows; the first 20 are listed.
        TooLongError: `truncation: refuse` and a long row, or no row fits.
        NoRowsError: Nothing is left.
        NoTargetsError: Nothing that is left carries loss.
        TemplateError: See `Renderer.render`.
    """
    renderer.counts.clear()  # one renderer serves training and held-out rows
    renderer.controls.clear()
    renderer.left_out.clear()
    account = _Account(bad=list(loaded.bad))
    for made in renderer.render_each(loaded.samples):
        if isinstance(made, DataError):
            raise made
        if isinstance(made, LongRow):
            account.long.append(made)
        elif isinstance(made, BadRow):
            account.bad.append(made)
        else:
            account.examples.append(made)
    total = len(loaded.samples) + len(loaded.bad)
    _judge(account, renderer, total, bad_rows, role, loaded.columns)
    notices = [*loaded.notices, *renderer.notices, *_notices(account, renderer, loaded.samples)]
    return Prepared(
        account.examples,
        _report(account, renderer, loaded, notices),
        _ledger(account),
        notices,
        fingerprint(account.examples),
    )


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over the ids and weights of every sequence, with the borders between them, and labels."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(len(example.sequences).to_bytes(4, "little"))
        if example.wanted is not None:
            digest.update(bytes([example.wanted]))
        for sequence in example.sequences:
            digest.update(len(sequence.ids).to_bytes(4, "little"))
            digest.update(np.ascontiguousarray(sequence.ids, "<i4").tobytes())
            digest.update(np.ascontiguousarray(sequence.weights, "<f4").tobytes())
    return digest.hexdigest()


def overlap(train: Items[Sample], held_out: Items[Sample]) -> int:
    """Number of held-out rows that are also in the training rows."""
    known = {sample_key(sample) for sample in train}
    return sum(sample_key(sample) in known for sample in held_out)


def sample_key(sample: Sample) -> bytes:
    """SHA-256 of what a sample says, wherever it stands: equal for exact duplicates."""
    parts = [repr(getattr(sample, name)) for name in sample.__slots__ if name != "origin"]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()


def chosen_longer(pairs: Items[Example]) -> float:
    """Share of the pairs whose chosen side is the longer one, 0 to 1; equal sides count half."""
    sides = [[len(s.ids) for s in example.sequences[:2]] for example in pairs]
    longer = sum((a > b) + 0.5 * (a == b) for a, b in sides)
    return float(longer) / max(1, len(sides))


def _judge(
    account: _Account,
    renderer: Renderer,
    total: int,
    bad_rows: BadRows,
    role: str,
    columns: Mapping[str, str],
) -> None:
    bad, long = account.bad, account.long
    unfit = [] if renderer.truncation == "drop" else long
    if (renderer.truncation == "refuse" and long) or (long and not account.examples and not bad):
        lengths = [row.tokens for row in long]
        raise TooLongError(
            f"{len(long)} of {total} {role} rows are longer than seq_length {renderer.seq_length}: "
            f"{truncate.histogram(lengths, renderer.seq_length)}",
            why="no row may be cut to nothing"
            if renderer.truncation != "refuse"
            else "truncation: refuse; the first: " + _listing(long[:3], "; "),
            fix=f"seq_length: {max(lengths)}"
            + (
                ", or truncation: prompt_start" if renderer.truncation in ("refuse", "drop") else ""
            ),
        )
    refuse_bad([*bad, *unfit], total, bad_rows=bad_rows, role=role, columns=columns)
    if not account.examples:
        raise NoRowsError(
            f"no {role} rows: {total} were read and none can be used",
            why="there is nothing to learn from",
            fix="luthier data check FILE",
        )
    if not any(np.any(item.weights) for made in account.examples for item in made.sequences):
        raise NoTargetsError(
            f"no token of the {role} rows carries loss",
            why="nothing would be learned",
            fix="train_on: all",
        )


def refuse_bad(
    wrong: Items[BadRow],
    total: int,
    *,
    bad_rows: BadRows,
    role: str = "train",
    columns: Mapping[str, str] | None = None,
) -> None:
    """Refuse data of which too much cannot be used, with the command that mends it.

    Args:
        total: Rows in all.
        columns: How they were read.

    Raises:
        BadRowsError: More than `bad_rows` allows.
    """
    if not wrong or (bad_rows != "refuse" and len(wrong) <= ALLOWED_SHARE * total):
        return
    kinds = Counter(
        row.reason if len(row.reason) < 80 else row.reason[:80] + "..." for row in wrong
    )
    counted = ", ".join(f"{reason}: {count}" for reason, count in kinds.most_common(5))
    rule = "bad_rows: refuse" if bad_rows == "refuse" else "bad_rows: drop allows at most 1 %"
    more = f"\n  and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
    raise BadRowsError(
        f"{len(wrong)} of {total} {role} rows cannot be used ({counted})\n  "
        + _listing(wrong[:_LISTED], "\n  ")
        + more,
        why=rule,
        fix=f"{fix_command(wrong[0].origin.file, columns)} leaves out what cannot be mended",
    )


def fix_command(file: str, columns: Mapping[str, str] | None = None) -> str:
    """The command that writes a file again without what is wrong with it."""
    path = Path(file)
    target = path.with_name(f"{path.name.split('.')[0]}-fixed.jsonl")
    flag = f" {as_flag(columns)}" if columns else ""
    return f"luthier data fix {shlex.quote(file)} --output {shlex.quote(str(target))}{flag}"


def _listing(rows: Items[BadRow], separator: str) -> str:
    return separator.join(f"{row.origin}: {row.reason}" for row in rows)


def _notices(account: _Account, renderer: Renderer, samples: Items[Sample]) -> list[str]:
    counts = renderer.counts
    made = []
    if dropped := len(account.bad) + len(account.long):
        made.append(f"{dropped} rows were dropped; ledger.jsonl has each with its reason")
    if cut := sum(example.cut is not None for example in account.examples):
        made.append(f"{cut} rows were cut to {renderer.seq_length} tokens; see ledger.jsonl")
    if count := counts["own_system_prompt"]:
        made.append(f"{count} rows have system text of their own, which wins over system_prompt")
    if count := counts["chunked_rows"]:
        made.append(
            f"{count} texts are longer than seq_length and became consecutive pieces, nothing lost"
        )
    made += left_out_notices(renderer)
    if renderer.controls:
        named = ", ".join(f"{token} ({count})" for token, count in renderer.controls.most_common(8))
        made.append(f"control tokens in the text of rows are read as control tokens: {named}")
    twice = len(samples) - len({sample_key(sample) for sample in samples})
    if twice:
        made.append(f"{twice} rows repeat an earlier row")
    return made


LEFT_OUT: Mapping[str, str] = {
    EARLIER_THOUGHTS: "the template leaves the reasoning of earlier turns out of later prompts",
    EARLIER_TEXTS: "the template shortens earlier turns in later prompts",
    BESIDE_CALLS: "the template writes the text beside a call as reasoning",
    TOOL_PARTS: "the template leaves out parts of the tools' descriptions",
}
"""What a template leaves out on purpose, by the name in `data.json`."""


def left_out_notices(renderer: Renderer) -> list[str]:
    """What the template leaves out on purpose and what was added, with the number of rows."""
    made = [f"{LEFT_OUT[name]} ({count} rows)" for name, count in renderer.left_out.items()]
    if count := renderer.counts["thoughts_opened"]:
        made.append(f"{count} answers end a thought they do not begin: <think> is put before it")
    return made


def _report(
    account: _Account, renderer: Renderer, loaded: LoadedRows, notices: list[str]
) -> dict[str, object]:
    sequences = [item for example in account.examples for item in example.sequences]
    lengths = np.array([len(item.ids) for item in sequences], np.int64)
    supervised = sum(truncate.targets(item) for item in sequences)
    quantiles = np.percentile(lengths, [0, 5, 25, 50, 75, 95, 99, 100])
    names = ("min", "p5", "p25", "p50", "p75", "p95", "p99", "max")
    return {
        "files": [
            {"path": str(item.path), "sha256": item.sha256, "rows": item.rows}
            for item in loaded.files
        ],
        "mix": dict(loaded.mix),
        "columns_unused": dict(loaded.unused),
        "rows": {
            "read": len(loaded.samples) + len(loaded.bad),
            "used": len(account.examples),
            "cut": sum(example.cut is not None for example in account.examples),
            "dropped": len(account.bad) + len(account.long),
            "dropped_bad": len(account.bad),
            "dropped_long": len(account.long),
            "own_system_prompt": renderer.counts["own_system_prompt"],
        },
        "sequences": len(sequences),
        "tokens": int(lengths.sum()),
        "supervised_tokens": int(supervised),
        "lengths": {name: float(value) for name, value in zip(names, quantiles, strict=False)},
        "control_tokens_in_text": dict(renderer.controls),
        "left_out": dict(renderer.left_out),
        **_pairs(account, loaded),
        "notices": notices,
        "fingerprint": fingerprint(account.examples),
        "tokenizer": renderer.tokenizer.fingerprint,
        "template": None if renderer.template is None else renderer.template.fingerprint,
    }


def _pairs(account: _Account, loaded: LoadedRows) -> dict[str, float]:
    """What is reported of preference pairs or of labelled answers only."""
    if labels := [example.wanted for example in account.examples if example.wanted is not None]:
        return {"wanted": sum(labels)}
    if not all(isinstance(sample, Preference) for sample in loaded.samples):
        return {}
    return {"chosen_longer": round(chosen_longer(account.examples), 4)}


def _ledger(account: _Account) -> list[dict[str, object]]:
    made: list[dict[str, Any]] = [
        {
            "file": row.origin.file,
            "line": row.origin.line,
            "action": "dropped",
            "reason": row.reason,
        }
        for row in (*account.bad, *account.long)
    ]
    for example in account.examples:
        if (cut := example.cut) is not None:
            made.append(
                {
                    "file": example.origin.file,
                    "line": example.origin.line,
                    "action": "cut",
                    "prompt_tokens": cut.prompt_tokens,
                    "answer_tokens": cut.answer_tokens,
                    "turns": cut.turns,
                }
            )
    return sorted(made, key=lambda entry: (entry["file"], entry["line"]))
