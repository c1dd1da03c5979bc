"""Tokenizers that take seconds to convert, made once."""

from collections.abc import Callable

import pytest
from tests.conftest import SHARED
from tests.rendering import VOCABULARIES, converted

from luthier.data.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tokenizer]:
    """The real tokenizer of a name in VOCABULARIES, converted from its published file."""
    made: dict[str, Tokenizer] = {}

    def get(name: str) -> Tokenizer:
        if not SHARED.exists():
            pytest.skip(f"{SHARED} is absent; set LUTHIER_SHARED to the folder of shared data")
        if name not in made:
            _, source, config = VOCABULARIES[name]
            folder = converted(tmp_path_factory.mktemp(name), source, config)
            made[name] = Tokenizer.from_folder(folder)
        return made[name]

    return get
