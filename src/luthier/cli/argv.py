"""A command line with settings, put into one form before anything is parsed.

Every flag becomes `--name=value`, so that nothing can swallow the next word: a boolean takes
nothing or true/false and has its `--no-` form, every other flag needs a value, and a value that
begins with `--` is refused unless an equals sign says that it is meant.
"""

from collections.abc import Mapping, Sequence

from luthier.errors import UsageError


def normalise(
    words: Sequence[str], *, booleans: Mapping[str, frozenset[str]], switches: frozenset[str]
) -> list[str]:
    """The same command line with every flag as one word.

    Args:
        words: What stands behind the name of the command.
        booleans: Flags that may stand alone, with the words they take besides true and false.
        switches: Options of the command itself that never take a value.

    Raises:
        UsageError: A value is missing, looks like a flag, or stands behind a `--no-` form.
    """
    found: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            return [*found, word, *left]
        if not word.startswith("--"):
            found.append(word)
            continue
        spelled, equals, value = word[2:].partition("=")
        name = spelled.replace("-", "_")
        if name in switches and not equals:
            found.append(word)
        elif name.removeprefix("no_") in booleans:
            found.append(_boolean(name, value if equals else None, left, booleans))
        elif equals:
            found.append(f"--{name}={value}")
        else:
            found.append(f"--{name}={_value(spelled, left)}")
    return found


def _boolean(
    name: str, value: str | None, left: list[str], booleans: Mapping[str, frozenset[str]]
) -> str:
    if name not in booleans:
        setting = name.removeprefix("no_")
        if value is not None or (left and left[0].lower() in ("true", "false")):
            raise UsageError(
                f"--{name} takes no value",
                why=f"it says {setting}: false already",
                fix=f"--{setting} false",
            )
        return f"--{setting}=false"
    if value is None:
        words = {"true", "false"} | booleans[name]
        value = left.pop(0) if left and left[0].lower() in words else "true"
    return f"--{name}={value}"


def _value(spelled: str, left: list[str]) -> str:
    if not left:
        raise UsageError(
            f"--{spelled} has no value",
            why="only settings that are true or false can stand alone",
            fix=f"--{spelled} VALUE; luthier train --help says which values",
        )
    if left[0].startswith("--"):
        raise UsageError(
            f"--{spelled} is followed by {left[0]}, another flag",
            why="a value that begins with -- is more likely a value forgotten",
            fix=f"--{spelled} VALUE {left[0]}; or --{spelled}={left[0]} if it is meant",
        )
    return left.pop(0)
