from __future__ import annotations

import io

import pytest

from vhdtool.report.blocks import Cell, Fields, Heading, Line, Table, plain, printable, size, width
from vhdtool.report.styled import draw

BLOCKS = [
    Heading("disk.vhdx", "VHDX"),
    Fields((("Name", Cell("value")), ("Longer name", Cell("한국어")))),
    Heading("Table"),
    Table(
        ("Name", "Size"),
        ((Cell("a" * 150, "strong"), Cell("5")), (Cell("한국어"), Cell("12345"))),
        right=frozenset({"Size"}),
        fold=frozenset({"Name"}),
    ),
    Line(Cell("the end", "bad")),
]


def test_plain_text_is_aligned_and_never_cut():
    text = list(plain(BLOCKS))
    assert text[:4] == ["disk.vhdx  VHDX", "Name         value", "Longer name  한국어", ""]
    assert text[5] == "Name" + " " * 146 + "   Size"
    assert text[7] == "a" * 150 + "      5"
    assert text[8] == "한국어" + " " * 144 + "  12345"
    assert text[-1] == "the end"


def test_drawn_without_colours_has_no_escape_sequences():
    out = io.StringIO()
    draw(BLOCKS, out, color=False, columns=60)
    assert "\x1b" not in out.getvalue()
    assert "a" * 40 in out.getvalue()
    assert out.getvalue().count("a") >= 150  # folded, not cut


def test_drawn_with_colours():
    out = io.StringIO()
    draw(BLOCKS, out, color=True, columns=60)
    assert "\x1b[1;31mthe end\x1b[0m" in out.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("한국어 é", "한국어 é"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\r\t", "a\\x0ab\\x0d\\x09"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("[bold]", "[bold]"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def test_markup_in_an_image_is_not_markup():
    out = io.StringIO()
    draw([Line(Cell("[bold red]name[/]"))], out, color=True, columns=60)
    assert "[bold red]name[/]" in out.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (40 << 30, "40.0 GiB"), (64 << 40, "64.0 TiB")],
)
def test_size(count, text):
    assert size(count) == text


def test_width_of_wide_and_combining_characters():
    assert width("한") == 2
    assert width("e\u0301") == 1
