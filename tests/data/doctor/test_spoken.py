"""The doctor in four languages: every rule, and nothing of a file's own put into words that are not its."""

import json
import re
from importlib.resources import files

import pytest

from luthier.cli.drawing.folding import columns_of, folded
from luthier.cli.main import main
from luthier.data.doctor.rules import RULES
from luthier.data.doctor.spoken import spoken, words
from luthier.errors import UsageError
from luthier.languages import LANGUAGES, chosen, language_of

FOREIGN = [one for one in LANGUAGES if one != "en"]


@pytest.mark.parametrize("lang", FOREIGN)
def test_every_rule_is_said_whole_with_its_commands_untouched(lang):
    said = words(lang)
    wanted = {f"{rule.code}.{word}" for rule in RULES for word in ("title", "why", "fix")}
    assert set(said) == wanted | set(words("en"))
    titles = json.loads((files("luthier") / "web" / "lang" / f"{lang}.json").read_text("utf-8"))
    for rule in RULES:
        assert said[f"{rule.code}.title"] == titles[f"finding.{rule.code}"]
        for pattern in (
            r"luthier data \w+(?: FILE --output NEW)?",
            r"--[a-z_]+",
            r"\{\{?\w+",
            r"sed '[^']*'",
        ):
            assert set(re.findall(pattern, rule.fix)) <= set(
                re.findall(pattern, said[f"{rule.code}.fix"])
            ), rule.code
        assert said[f"{rule.code}.why"] != rule.why


@pytest.mark.parametrize("lang", FOREIGN)
def test_what_only_this_file_gave_rise_to_stays_english_and_says_so(lang):
    rule = next(rule for rule in RULES if rule.code == "format-unknown")
    own = {"code": rule.code, "title": rule.title, "why": "its own", "fix": "--columns a=b"}
    (said,) = spoken({"findings": [own]}, lang)["findings"]
    assert (said["why"], said["fix"]) == ("its own", "--columns a=b")
    assert said["lang"] == {"title": lang}
    assert spoken({"findings": [own]}, "en") == {"findings": [own]}


@pytest.mark.parametrize(
    ("name", "lang"),
    [
        ("zh_CN.UTF-8", "zh"), ("zh-Hans", "zh"), ("zh", "zh"), ("id_ID", "id"), ("in", "id"),
        ("vi_VN.utf8", "vi"), ("EN", "en"), ("C", None), ("de_DE", None),
    ],
)  # fmt: skip
def test_a_language_is_known_under_the_names_of_systems(name, lang):
    assert language_of(name) == lang


def test_the_language_of_the_environment_is_taken_unless_one_is_asked_for():
    assert chosen(None, {"LANG": "vi_VN.UTF-8"}) == "vi"
    assert chosen(None, {"LC_ALL": "C", "LANG": "vi_VN.UTF-8"}) == "en"
    assert chosen("zh-CN", {"LANG": "vi_VN"}) == "zh"
    with pytest.raises(UsageError, match="--lang klingon"):
        chosen("klingon", {})


def test_lines_of_chinese_are_filled_and_words_are_not_broken():
    text = "数据中有无法读取的行，运行在开始前就会停在这里；修正指出的行 /a/long/path/that/is/never/broken/at/all 即可。"
    lines = list(folded(text, 40, head="  原因  "))
    assert lines[0].startswith("  原因  数据")
    assert all(columns_of(line) <= 40 for line in lines if "/a/long" not in line)
    assert columns_of(lines[0]) >= 36
    assert not any(line.strip().startswith(("，", "；", "。")) for line in lines)
    assert any("/a/long/path/that/is/never/broken/at/all" in line for line in lines)


def test_the_command_line_speaks_the_language_of_the_machine(tmp_path, capsys, monkeypatch):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "2+2?", "completion": "4"}, {"prompt": "3+3?", "completion": ""}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    for more, word in (([], "sebab"), (["--lang", "zh_CN"], "原因"), (["--lang", "en"], "why")):
        with pytest.raises(SystemExit):
            main(["data", "check", str(path), *more])
        assert f"  {word}  " in capsys.readouterr().out
