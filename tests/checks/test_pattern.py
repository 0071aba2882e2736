from __future__ import annotations

import re
import time

import pytest

from vhdtool.checks.pattern import LONGEST_TEXT, Pattern
from vhdtool.errors import InputError, UsageError


@pytest.mark.parametrize(
    "pattern",
    [
        r"^6\.3\.9600\.\d+$", r"a|b|", r"(a|b)*c", r"[a-cx-z]+", r"[^a-c]", r"[]a]", r"[a-]", r"\bKB\d{7}\b",
        r"x{2,3}y",
        r"x{2,}", r"x{0}y", r"(?:ab)+", r"(?i)windows", r"^$", r"a.c", r"\w\W\s\S\d\D", r"\.", r"(a*)*b", r"(a|a)*b",
        r"^(\w+\s?)*$", r"", r"()", r"[\d.]+", r"[\]\\]", r"\t", r"x?y?z?", r"(^a|b$)", r"[^\d\s]+",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "text",
    ["", "6.3.9600.18692", "abc", "xxxy", "xxx", "y", "aaac", "Microsoft Windows Server 2012 R2", "see KB4072650.",
     "see KB40726501", "a\nc", "a.c", "]", "\\", "-", "a1 b_2", "\t", "été 42", "ab-ab", "12"],
)  # fmt: skip
def test_finds_what_re_finds(pattern, text):
    assert Pattern(pattern).found_in(text) == (re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None)


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "a)", "[a", "[", "*a", "a**", "a{2}{3}", "{2}", "a{3,2}", "a{1001}", r"\1", r"(a)\1",
     "(?=a)", "(?", "\\", "[z-a]", r"[a-\d]", r"\p", "((((a{200}){200}){200}){200})",
     "x" * 300, "(" * 200, "\udc80"],
)  # fmt: skip
def test_what_is_not_understood_is_an_error(pattern):
    with pytest.raises(UsageError) as caught:
        Pattern(pattern)
    assert caught.value.code == "pattern"


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"^(a|a)*$", r"^(a|aa)+$", r"(.*)*(.*)*(.*)*x", r"^(\w+\s?)*$"])
def test_what_takes_re_for_ever_takes_no_time(pattern):
    compiled = Pattern(pattern)
    started = time.process_time()
    assert not compiled.found_in("a" * 5000 + "!")
    assert time.process_time() - started < 5


def test_what_is_too_long_is_told():
    assert not Pattern("(a?){200}(a?){200}(a?){200}x").found_in("a" * LONGEST_TEXT)
    with pytest.raises(InputError) as caught:
        Pattern("a").found_in("b" * (LONGEST_TEXT + 1))
    assert caught.value.code == "text-too-long"


def test_half_a_surrogate_pair_is_a_text():
    assert Pattern("^a.b$").found_in("a\udc80b")


def test_case():
    assert Pattern("(?i)SERVER").found_in("Windows Server")
    assert not Pattern("SERVER").found_in("Windows Server")
