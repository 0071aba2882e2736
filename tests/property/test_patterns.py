"""Patterns of policies find what ``re`` finds, on whatever is thrown at them, and never fail otherwise."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from vhdtool.checks.path import Path
from vhdtool.checks.pattern import Pattern
from vhdtool.errors import UsageError

ATOMS = st.sampled_from(
    ["a", "b", "c", ".", "[ab]", "[^a]", "[a-c]", r"\d", r"\w", r"\s", r"\W", r"\b", "^", "$", r"\."]
)
TEXTS = st.text(alphabet="abc1 ._\n\té", max_size=12)


def longer(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{1,}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    )


@given(st.recursive(ATOMS, longer, max_leaves=8), TEXTS)
@settings(max_examples=400, deadline=None)
def test_patterns_find_what_re_finds(pattern, text):
    assert Pattern(pattern).found_in(text) == (re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None)


@given(st.text(alphabet="ab()[]|*+?{}^$\\-.,12:i", max_size=12), TEXTS)
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_pattern_or_a_clear_error(pattern, text):
    try:
        compiled = Pattern(pattern)
    except UsageError as error:
        assert error.code == "pattern"  # noqa: PT017  # it may also be none
        return
    assert compiled.found_in(text) in {True, False}


@given(st.text(alphabet='gu_[]*=!".0 9', max_size=16))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_path_or_a_clear_error(text):
    try:
        Path(text)
    except UsageError as error:
        assert error.code == "rule-path"  # noqa: PT017  # it may also be none
