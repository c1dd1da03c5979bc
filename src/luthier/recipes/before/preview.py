"""What the model will see of one row: the same reading and rendering as in training."""

from typing import Any

from luthier.config.settings import Settings
from luthier.data.load import Loaded
from luthier.data.rendering import marks
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import RowTemplateError
from luthier.data.types import BadRow, Preference, Sample
from luthier.errors import DataError
from luthier.recipes.before.opening import Opening, open_run
from luthier.sources.source import resolve_source


def preview(settings: Settings, line: int) -> dict[str, object]:
    """One row as training gets it.

    Args:
        settings: Those of a run; model, data and text settings are used.
        line: Line in the file, from 1, as messages name rows; the row's place in a JSON array.

    Returns:
        `row`, `line`; `sequences`, each a list of pieces with `text`, `ids`, `weight`, `kind`,
        `shared` (computed once with an earlier sequence) and `cut` (taken by truncation); `names`
        of the sequences of a pair; per sequence the number of `tokens`, `shared` and `learned`
        ones and the `cut_spans` (null where what is left was tokenised anew); `cut`, what was
        taken in all; `dropped` (a reason, or None); `notices`.

    Raises:
        DataError: There is no such row, or it cannot be used; the reason is in the message.
    """
    opening = _opened(settings)
    shown = _shown(opening.renderer, _row(opening.rows, line))
    return {**shown, "notices": [*opening.notices, *opening.renderer.notices]}


def previews(settings: Settings, *, first: int, count: int) -> dict[str, object]:
    """Several rows, bad ones included, in the order of their lines.

    Args:
        first: Which row to begin with, from 1.
        count: How many at most.

    Returns:
        `rows` (each as of `preview`, or with `row`, `line` and `bad`, the reason), `total` and
        `notices`.
    """
    opening = _opened(settings)
    loaded, renderer, notices = opening.rows, opening.renderer, opening.notices
    everything = [*loaded.samples, *loaded.bad]
    places = {file.path: place for place, file in enumerate(loaded.files)}
    everything.sort(key=lambda one: (places.get(one.origin.file, 0), one.origin.line))
    rows: list[dict[str, Any]] = []
    for sample in everything[first - 1 : first - 1 + count]:
        where: dict[str, object] = {"row": str(sample.origin), "line": sample.origin.line}
        if isinstance(sample, BadRow):
            rows.append({**where, "bad": sample.reason})
            continue
        try:
            rows.append({**where, **_shown(renderer, sample)})
        except RowTemplateError as error:
            rows.append({**where, "bad": error.what})
    return {"rows": rows, "total": len(everything), "notices": [*notices, *renderer.notices]}


def _opened(settings: Settings) -> Opening:
    return open_run(settings, resolve_source(settings.model, revision=settings.revision))


def _shown(renderer: Renderer, sample: Sample) -> dict[str, object]:
    rendered = renderer.render(sample)
    explained = renderer.explain(sample)
    wholes = [marks.ids_of(pieces) for pieces in explained]
    shared = marks.shared_tokens(wholes)
    kept = [] if isinstance(rendered, BadRow) else [one.ids for one in rendered.sequences]
    whole_kept = len(kept) == len(wholes)
    spans = [
        marks.cut_spans(whole, kept[place]) if whole_kept else None
        for place, whole in enumerate(wholes)
    ]
    return {
        "row": str(sample.origin),
        "line": sample.origin.line,
        "names": ["chosen", "rejected"] if isinstance(sample, Preference) else [],
        "sequences": [
            [
                _plain(one)
                for one in marks.mark(
                    pieces, renderer.tokenizer.decode, shared=shared[place], cuts=spans[place] or ()
                )
            ]
            for place, pieces in enumerate(explained)
        ],
        "tokens": [len(whole) for whole in wholes],
        "shared": shared,
        "learned": _learned(rendered),
        "dropped": rendered.reason if isinstance(rendered, BadRow) else None,
        "cut": _cut(rendered),
        "cut_spans": spans,
    }


def _row(loaded: Loaded, line: int) -> Sample:
    """The sample of a line, in the first file that has it."""
    for sample in loaded.samples:
        if sample.origin.line == line:
            return sample
    for bad in loaded.bad:
        if bad.origin.line == line:
            raise DataError(
                f"{bad.origin} cannot be used: {bad.reason}",
                why="a row has to have a format that is known and all its parts",
                fix="luthier data formats lists the formats with an example of each",
            )
    lines = [sample.origin.line for sample in loaded.samples]
    raise DataError(
        f"there is no row on line {line} of {loaded.files[0].path}",
        why=f"its {len(lines):,} rows are on lines {min(lines, default=0)} to {max(lines, default=0)}",
        fix=f"--row {min(lines, default=1)}",
    )


def _plain(piece: marks.Marked) -> dict[str, Any]:
    return {
        "text": piece.text,
        "ids": [int(one) for one in piece.ids],
        "weight": float(piece.weight),
        "kind": piece.kind,
        "shared": piece.shared,
        "cut": piece.cut,
    }


def _learned(rendered: Any) -> list[int]:
    if isinstance(rendered, BadRow):
        return []
    return [int((sequence.weights > 0).sum()) for sequence in rendered.sequences]


def _cut(rendered: object) -> dict[str, int] | None:
    cut = getattr(rendered, "cut", None)
    if cut is None:
        return None
    return {
        "prompt_tokens": cut.prompt_tokens,
        "answer_tokens": cut.answer_tokens,
        "turns": cut.turns,
    }
