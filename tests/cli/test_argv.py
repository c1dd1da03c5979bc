"""No flag swallows the next word, and nothing else is lost either."""

import pytest
from typer.main import get_command

from luthier.cli.argv import normalise
from luthier.cli.flags import OTHER, normalise_settings
from luthier.cli.main import COMMANDS, SWITCHES, TAKE_SETTINGS, build
from luthier.config.settings import Settings
from luthier.errors import UsageError

BOOLEANS = {"flag_a": frozenset(), "flag_b": frozenset({"auto"})}


def put(*words):
    return normalise(words, booleans=BOOLEANS, switches=frozenset({"json"}))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--flag_a", "--size", "5"], ["--flag_a=true", "--size=5"]),
        (["--flag-a", "run.yaml"], ["--flag_a=true", "run.yaml"]),
        (["--flag_a", "true", "run.yaml"], ["--flag_a=true", "run.yaml"]),
        (["--flag_a", "FALSE"], ["--flag_a=FALSE"]),
        (["--flag_a=false", "x"], ["--flag_a=false", "x"]),
        (["--flag_a", "auto"], ["--flag_a=true", "auto"]),
        (["--flag_b", "auto"], ["--flag_b=auto"]),
        (["--no-flag_a", "run.yaml"], ["--flag_a=false", "run.yaml"]),
        (["--no_flag_a"], ["--flag_a=false"]),
        (["--size", "-1"], ["--size=-1"]),
        (["--size", "-1e-4", "x"], ["--size=-1e-4", "x"]),
        (["--name=--strange"], ["--name=--strange"]),
        (["--name="], ["--name="]),
        (["--name=a=b"], ["--name=a=b"]),
        (["--json", "run.yaml"], ["--json", "run.yaml"]),
        (["--name", "a b;rm -rf /"], ["--name=a b;rm -rf /"]),
        (["--name", "Ä"], ["--name=Ä"]),
        (["a", "--", "--flag_a", "b"], ["a", "--", "--flag_a", "b"]),
        ([], []),
    ],
)
def test_every_flag_becomes_one_word(words, expected):
    assert put(*words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size"], "--size has no value"),
        (["--size", "--flag_a"], "--size is followed by --flag_a"),
        (["--size", "--5"], "--size is followed by --5"),
        (["--no-flag_a", "true"], "takes no value"),
        (["--no-flag_a=true"], "takes no value"),
    ],
)
def test_a_value_forgotten_is_refused(words, message):
    with pytest.raises(UsageError, match=message):
        put(*words)


def test_names_that_are_no_setting_are_kept_for_the_reader():
    words = [
        "--lora-rank",
        "8",
        "--bf16",
        "--learning-rate",
        "1e-4",
        "--resume",
        "x.yaml",
        "--h",
        "1",
    ]
    assert normalise_settings(words, switches=frozenset({"json"})) == [
        "--also=lora_rank=8",
        "--also=bf16=true",
        "--learning_rate=1e-4",
        "--resume=true",
        "x.yaml",
        "--also=h=1",
    ]


def commands_with_settings():
    """Every command that takes settings, with its own options; by its path."""

    def below(command, path=()):
        if hasattr(command, "commands"):
            for name, one in command.commands.items():
                yield from below(one, (*path, name))
        else:
            yield path, command

    for name in COMMANDS:
        for path, command in below(get_command(build(name))):
            options = [one for one in command.params if one.param_type_name == "option"]
            if path[:1] == (name,) and "help_settings" in {one.name for one in options}:
                hidden = {*Settings.model_fields, OTHER}
                yield path, [one for one in options if one.name not in hidden]


def test_the_table_of_commands_with_settings_is_that_of_their_parsers():
    taken, switches = {}, set()
    for path, options in commands_with_settings():
        names = {one.opts[0].removeprefix("--").replace("-", "_"): one.is_flag for one in options}
        taken[path] = frozenset(name for name, is_flag in names.items() if not is_flag)
        switches |= {name for name, is_flag in names.items() if is_flag}
    assert taken == TAKE_SETTINGS
    assert switches == SWITCHES
