"""What the tokenizers package raises over a file of the user's becomes an error that names it."""

from collections.abc import Iterator
from contextlib import contextmanager

from luthier.errors import TokenizerError


@contextmanager
def of_file(doing: str) -> Iterator[None]:
    """Within, a refusal of the package is a fault of tokenizer.json.

    The package raises bare `Exception`s; a panic of its Rust code is no `Exception` at all.

    Args:
        doing: What was tried: `loaded`, `used on a text`.

    Raises:
        TokenizerError: The package refused, or panicked.
    """
    try:
        yield
    except BaseException as error:
        panicked = type(error).__name__ == "PanicException"
        if isinstance(error, TokenizerError) or not (panicked or isinstance(error, Exception)):
            raise
        raise TokenizerError(
            f"tokenizer.json cannot be {doing}: {str(error)[:300]}",
            why="the tokenizers package rejects it",
            fix="fetch the file again, or: pip install -U tokenizers",
        ) from error
