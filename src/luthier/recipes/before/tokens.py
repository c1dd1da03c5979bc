"""The tokenizer of a model, checked against the model: the one way every command opens it."""

from luthier.data.limited.opening import open_folder
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.sources.check import check_tokenizer_fits, embedding_rows
from luthier.sources.source import ModelSource


def open_tokenizer(source: ModelSource) -> Tokenizer:
    """Load the tokenizer that belongs to a model.

    Raises:
        TokenizerError: There is none, it is damaged, or ids of it have no embedding in the model.
    """
    tokenizer = open_folder(source.tokenizer)
    if (rows := embedding_rows(source.config)) is not None:
        check_tokenizer_fits(tokenizer.vocab_size, rows)
    return tokenizer
