"""Patterns of module names: as Python's engine says, in linear time."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.bounded_patterns import Pattern, PatternError, Suffix

NAMES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.11.self_attn.v_proj",
    "model.layers.11.mlp.down_proj",
    "transformer.h.3.attn.c_attn",
    "base_model.encoder.layers.1.experts.0.w1",
    "q_proj",
    "xq_proj",
    "",
]
IN_THE_WILD = [
    r"q_proj",
    r"self_attn.q_proj",
    r"model\.layers\.11\.self_attn\.v_proj",
    r"^model.layers.11.self_attn.v_proj",
    r"layers\.(0|1|11)\..*proj",
    r".*\.layers\.\d+\.self_attn\.(q|v)_proj",
    r"(.*)(self_attn|mlp)\.[a-z_]+_proj$",
    r"layers\.[0-9]{1,2}\.mlp\.\w+",
    r"(?:model|transformer)\..*",
    r"[^.]*",
    r".*(q_proj|v_proj)",
]


@pytest.mark.parametrize("pattern", IN_THE_WILD)
def test_patterns_of_published_adapters_mean_what_peft_takes_them_for(pattern):
    for name in NAMES:
        assert Suffix(pattern).matches(name) == bool(re.match(rf"(.*\.)?({pattern})$", name)), name
        assert Pattern(pattern).fullmatch(name) == bool(re.fullmatch(pattern, name)), name


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text("ab.(|)*+?[]^-\\d{}1,2", max_size=12), st.text("ab1.", max_size=10))
def test_a_pattern_matches_as_the_standard_engine_or_is_refused(pattern, text):
    try:
        ours = Pattern(pattern)
    except PatternError:
        return
    try:
        theirs = re.compile(pattern)
    except re.error:
        return
    assert ours.fullmatch(text) == bool(theirs.fullmatch(text))


@pytest.mark.parametrize(
    "pattern", ["(([a-z_.0-9])+)+!", "(a*)*b", "(a|a)*b", "(.*)*(.*)*(.*)*!", "(a?){30}a{30}!"]
)
def test_no_pattern_takes_long(pattern):
    began = time.process_time()
    assert not Suffix(pattern).matches("a" * 200)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(?!vision).*", "only plain groups"),
        (r"(a)\1", r"\\1 is not read"),
        (r"(?i)a", "only plain groups"),
        ("a(", "never closed"),
        ("a)", "closes nothing"),
        ("*a", "repeats nothing"),
        ("a**", "repeats a repetition"),
        ("[a", "ends too early"),
        ("((a{999}){999}){999}", "states"),
        ("a" * 5_000, "characters"),
        ("(" * 200, "nested"),
    ],
)
def test_what_is_not_read_is_named(pattern, reason):
    with pytest.raises(PatternError, match=reason):
        Pattern(pattern)
