"""The catalogues say the same in every language: same codes, same numbers, nothing left out."""

import re
from string import Formatter

import pytest

from luthier.advisor.health import CODES
from luthier.advisor.rules import REMARKS, TABLE
from luthier.advisor.speech import LANGUAGES, catalogue, text
from luthier.errors import UsageError

FOREIGN = [lang for lang in LANGUAGES if lang != "en"]


def placeholders(message):
    return sorted((name, spec) for _, name, spec, _ in Formatter().parse(message) if name)


@pytest.mark.parametrize("lang", FOREIGN)
def test_every_language_has_the_same_codes_with_the_same_placeholders(lang):
    english, other = catalogue("en"), catalogue(lang)
    assert other.keys() == english.keys()
    differ = [c for c in english if placeholders(english[c]) != placeholders(other[c])]
    assert differ == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_message_is_empty_and_none_is_left_in_english(lang):
    for code, message in catalogue(lang).items():
        assert message.strip() == message != "", code
        if lang == "zh":
            assert re.search("[\u4e00-\u9fff]", message), code
        elif lang != "en":
            assert message != catalogue("en")[code], code


def test_every_rule_and_every_judgement_has_its_message_and_no_message_is_unused():
    needed = {f"advice.{rule.code}" for rule in (*TABLE, *REMARKS)}
    needed |= {f"{part}.{code}" for code in CODES for part in ("health", "action")}
    extra = {code for code in catalogue("en") if not code.startswith("signal.")} - needed
    assert needed - set(catalogue("en")) == set()
    assert extra == {"advice.title", "advice.sources"}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_settings_and_commands_keep_their_names(lang):
    assert "dpo_beta" in catalogue(lang)["action.dpo_margins"]
    assert "luthier data show" in catalogue(lang)["action.no_gain"]


def test_numbers_are_written_as_the_placeholder_asks():
    assert "37.2 GiB" in text("advice.double_quant", {"saves": int(37.2 * 2**30)})
    said = text("advice.beta_length_bias", {"share": 0.0123}, "vi")
    assert "1.2 %" in said


def test_an_unknown_language_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="--lang de"):
        catalogue("de")
