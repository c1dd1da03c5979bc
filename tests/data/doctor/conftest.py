"""One tokenizer for all tests of the doctor."""

import pytest
from tests.tiny import tiny_model_folder

from luthier.data.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return Tokenizer.from_folder(tiny_model_folder(tmp_path_factory.mktemp("doctor"), seed=3))
