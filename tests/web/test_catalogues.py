"""Words of the page: the same in every language, each used, none missing."""

import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest

from luthier.config.settings import Settings
from luthier.data.doctor import rules

WEB = Path(__file__).parents[2] / "src" / "luthier" / "web"
LANGUAGES = ("en", "zh", "id", "vi")
SOURCE = "\n".join(path.read_text("utf-8") for path in sorted((WEB / "js").rglob("*.js")))


def catalogue(language):
    def once(pairs):
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), "a key is there twice"
        return dict(pairs)

    return json.loads(
        (WEB / "lang" / f"{language}.json").read_text("utf-8"), object_pairs_hook=once
    )


ENGLISH = catalogue("en")


def placeholders(text):
    return sorted(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_language_says_everything_english_says(language):
    words = catalogue(language)
    assert sorted(words) == sorted(ENGLISH)
    assert [key for key in words if not words[key].strip()] == []
    unlike = [
        key
        for key in words
        if placeholders(words[key]) != placeholders(ENGLISH[key]) and not key.endswith("_one")
    ]
    assert unlike == []


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_language_is_a_translation(language):
    words = catalogue(language)
    longer = [key for key in words if len(ENGLISH[key].split()) > 3]
    assert [key for key in longer if words[key] == ENGLISH[key]] == []


def asked():
    """Keys written out, and beginnings of keys that are made from a value."""
    literal = set(re.findall(r"[\"`]([a-z_]+(?:\.[a-z_]+)+|[a-z]+)[\"`]", SOURCE))
    made = set(re.findall(r"`([a-z_]+\.(?:[a-z_]+\.)*)\$\{", SOURCE))
    return literal, made


def test_every_word_is_used():
    literal, made = asked()
    made |= {"method.", "objective."}  # parts of one form, named after the field
    unused = [
        key
        for key in ENGLISH
        if key.removesuffix("_one") not in literal and not key.startswith(tuple(made))
    ]
    assert unused == []


def test_no_word_is_missing():
    wanted = set(re.findall(r"\bt\([\"`]([a-z_.]+)[\"`]", SOURCE))
    assert sorted(wanted - set(ENGLISH)) == []


def test_vietnamese_and_chinese_are_written_in_their_own_letters():
    assert sum(bool(re.search(r"[\u4e00-\u9fff]", text)) for text in catalogue("zh").values()) > 300
    assert (
        sum(bool(re.search(r"[à-ỹđ]", text, re.IGNORECASE)) for text in catalogue("vi").values())
        > 250
    )


def test_every_setting_is_explained_as_it_explains_itself():
    told = {
        name: " ".join(field.description.split()) for name, field in Settings.model_fields.items()
    }
    assert {key[5:]: text for key, text in ENGLISH.items() if key.startswith("help.")} == told


def test_every_rule_of_the_doctor_has_its_title():
    titles = {
        rule.code: rule.title
        for module in pkgutil.iter_modules(rules.__path__)
        for rule in vars(importlib.import_module(f"{rules.__name__}.{module.name}")).values()
        if isinstance(getattr(rule, "code", None), str) and hasattr(rule, "title")
    }
    assert len(titles) > 40
    assert {key[8:]: text for key, text in ENGLISH.items() if key.startswith("finding.")} == titles


GLOSSARY = json.loads((WEB.parents[2] / "docs" / "glossary.json").read_text("utf-8"))


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_language_keeps_to_its_glossary(language):
    """One word for a thing, on the page and in the advisor."""
    advisor = WEB.parent / "advisor" / "messages" / f"{language}.json"
    said = {**catalogue(language), **json.loads(advisor.read_text("utf-8"))}
    plain = {key: re.sub(r"`[^`]*`|\{[^}]*\}", "", text) for key, text in said.items()}
    assert len(GLOSSARY[language]) >= 4
    for term, words in GLOSSARY[language].items():
        wrong = {key: text for key, text in plain.items() if any(w in text for w in words["not"])}
        assert wrong == {}, (term, words["use"])


STILL_ENGLISH = {
    "parts/basic.js": 3,  # errors: what, why and fix, below their title
    "parts/job_tabs.js": 2,
    "parts/plan.js": 4,
    "parts/report.js": 1,
    "parts/rows.js": 1,
    "parts/settings_form.js": 1,
    "views/jobs.js": 1,
    "views/model.js": 2,
}
"""Places of the page that show what the server says in English alone: may shrink, not grow."""


def test_the_places_that_speak_english_alone_grow_no_more():
    found = {}
    for path in sorted((WEB / "js").rglob("*.js")):
        text = path.read_text("utf-8")
        count = len(re.findall(r'lang="en"|undefined : "en"', text))
        name = str(path.relative_to(WEB / "js"))
        if count or name in STILL_ENGLISH:
            found[name] = count
    assert found == STILL_ENGLISH, "lower the number where it shrank; translate where it grew"
