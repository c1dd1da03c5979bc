"""A few training rows as somebody else can check them: messages, text and ids."""

from collections.abc import Sequence
from dataclasses import asdict

from luthier.data.rendering.published import Published
from luthier.data.rendering.render import Renderer
from luthier.data.types import Sample
from luthier.errors import LuthierError

ROWS = 4


class WrittenRow(Published):
    """One row in two forms."""

    def as_dict(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def rows_to_check(renderer: Renderer, samples: Sequence[Sample]) -> list[WrittenRow]:
    """The first rows that every reader of the published tokenizer should read alike.

    Rows whose content holds control markup are left out: there luthier reads text on purpose.
    """
    found: list[WrittenRow] = []
    for sample in samples:
        if len(found) == ROWS:
            break
        try:
            row = renderer.published(sample)
        except LuthierError:  # a row that cannot be rendered is accounted for by the ledger
            continue
        if row is not None:
            found.append(WrittenRow(**asdict(row)))
    return found
