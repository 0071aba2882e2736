from __future__ import annotations

from dataclasses import dataclass

import pytest

from vhdtool.cli.output import Output, Target
from vhdtool.errors import OutputError, UsageError
from vhdtool.report.blocks import Cell, Line


@dataclass(frozen=True)
class Document:
    text: str


def blocks(document):
    return [Line(Cell(document.text))]


def test_json_goes_to_a_file_and_text_to_stdout(tmp_path, capsysbinary):
    with Output([Target("table"), Target("json", str(tmp_path / "out.json"))]) as output:
        output.emit(Document("one"), blocks)
        output.emit(Document("two"), blocks)
    assert (tmp_path / "out.json").read_bytes() == b'{"text":"one"}\n{"text":"two"}\n'
    assert capsysbinary.readouterr().out == b"one\n\ntwo\n"


def test_no_result_leaves_no_file(tmp_path):
    with Output([Target("json", str(tmp_path / "out.json"))]):
        pass
    assert not (tmp_path / "out.json").exists()


def test_two_results_can_not_both_go_to_stdout():
    with pytest.raises(UsageError):
        Output([Target("table"), Target("json")])


def test_an_image_is_never_written_over(tmp_path):
    image = tmp_path / "disk.vhdx"
    image.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(image)
    with Output([Target("json", str(tmp_path / "link"))]) as output:
        output.protect(str(image))
        with pytest.raises(UsageError, match="is the image"):
            output.emit(Document("x"), blocks)
    assert image.read_bytes() == b"precious"


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_file_that_can_not_be_made_is_said_so(tmp_path, form):
    with Output([Target(form, str(tmp_path / "absent" / "out"))]) as output, pytest.raises(OutputError) as caught:
        output.emit(Document("x"), blocks)
    assert (caught.value.code, caught.value.exit_code) == ("cannot-write", 7)
