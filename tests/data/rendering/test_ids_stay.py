"""The token ids and weights of rows of every shared file, under every template, are what they were.

`ids.json` beside this file holds a digest of three rows of each file under each template, and how many
of them cannot be learned from.  Where a change of them is meant, `python -m
tests.data.rendering.test_ids_stay` writes them anew, and the difference says which rows it touched.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tests.data.test_shared_files import DPO, SFT
from tests.rendering import SOURCES, chat_template, tokenizer_for

from luthier.data.load import load_samples
from luthier.data.rendering.render import Renderer
from luthier.data.types import Example, Sample
from luthier.errors import TemplateError

ROWS = 3
KEPT = Path(__file__).with_name("ids.json")
FILES = [name for name, *_ in [*SFT, *DPO]]


@cache
def renderer(template: str, objective: str) -> Renderer:
    source = SOURCES[template]
    tokenizer = tokenizer_for(template, source)
    made = chat_template(source, tokenizer)
    return Renderer(tokenizer, made, objective=objective, seq_length=4096)


def some_of(path: Path, objective: str) -> list[Sample]:
    """Rows from the whole length of a file."""
    samples = load_samples([str(path)], objective=objective).samples
    return [samples[at * len(samples) // ROWS] for at in range(min(ROWS, len(samples)))]


def digests_of(name: str, path: Path) -> dict[str, str]:
    """By template: a digest of ids and weights, with the number of rows that were refused."""
    objective = "dpo" if name.startswith("preference") else "sft"
    samples = some_of(path, objective)
    found = {}
    for template in sorted(SOURCES):
        digest, refused = hashlib.sha256(), 0
        for sample in samples:
            try:
                made: object = renderer(template, objective).render(sample)
            except TemplateError:  # it has no place for what the row has
                made = None
            if not isinstance(made, Example):
                refused += 1
                continue
            for sequence in made.sequences:
                digest.update(sequence.ids.tobytes() + sequence.weights.tobytes())
        found[template] = f"{digest.hexdigest()[:16]} {refused}"
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_ids_of_a_file_are_what_they_were(shared: Callable[[str], Path], name: str) -> None:
    assert digests_of(name, shared(name)) == json.loads(KEPT.read_text("utf-8"))[name]


if __name__ == "__main__":
    from tests.conftest import SHARED

    body = {name: digests_of(name, SHARED / name) for name in FILES}
    KEPT.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", "utf-8")
