"""Where a result goes: ``-o table|json[=FILE]``. stdout carries data only."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from vhdtool.cli.terminal import ColorChoice, look_at
from vhdtool.errors import UsageError, VhdtoolError

if TYPE_CHECKING:
    from vhdtool.report.blocks import Block

FORMATS = ("table", "json")
PIPE_WIDTH = 4096
"""Columns of a coloured table that no terminal limits: nothing is cut."""


@dataclass(frozen=True, slots=True)
class Target:
    """One ``-o``: a format, and a file or ``None`` for stdout."""

    format: str
    file: str | None = None


class Output:
    """Writes each result to every target. Files are opened late: a call that yields nothing leaves no empty file."""

    def __init__(self, targets: Sequence[Target], color: ColorChoice = "auto") -> None:
        self._targets = tuple(targets) or (Target("table"),)
        if sum(target.file is None for target in self._targets) > 1:
            raise UsageError("output", "two outputs can't both go to stdout", hint="Name a file: -o json=FILE")
        self._color = color
        self._inputs: set[Path] = set()
        self._files: dict[str, Any] = {}
        self._written = 0

    def __enter__(self) -> Self:
        """Give the output itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files; what is still buffered may find the disk full."""
        for name, file in self._files.items():
            with writing(name):
                file.close()

    @property
    def json(self) -> bool:
        """Whether any target is JSON."""
        return any(target.format == "json" for target in self._targets)

    @property
    def text(self) -> bool:
        """Whether any target is text."""
        return any(target.format == "table" for target in self._targets)

    def protect(self, *paths: str) -> None:
        """Name files that are read: none of them is ever written over."""
        self._inputs.update(Path(path) for path in paths)

    def emit(self, document: object, blocks: Callable[[Any], Iterable[Block]]) -> None:
        """Write a document: as JSON, or as what ``blocks`` makes of it."""
        for target in self._targets:
            if target.format == "json":
                self._write_json(target, document)
            else:
                self._write_blocks(target, blocks(document))
        self._written += 1

    def emit_lines(self, document: object, lines: Callable[[Any], Iterable[str]]) -> None:
        """Write a document whose text has a layout of its own."""
        for target in self._targets:
            if target.format == "json":
                self._write_json(target, document)
            else:
                self._write_lines(target, lines(document))
        self._written += 1

    @contextmanager
    def answering(self, schema: str, path: str) -> Iterator[None]:
        """Hold a command to its word: when the image fails, JSON targets get the error document; the error goes on."""
        self.protect(path)
        try:
            yield
        except VhdtoolError as error:
            self.emit_failure(schema, path, error)
            raise

    def emit_failure(self, schema: str, path: str, error: VhdtoolError) -> None:
        """Write the document of a failed image to the JSON targets; people read the error on stderr."""
        from vhdtool.report.encode import error_document  # noqa: PLC0415  # only when needed

        for target in self._targets:
            if target.format == "json":
                self._write_json(target, error_document(schema, path, error))
        self._written += 1

    def emit_stream(self, lines: Iterable[str]) -> None:
        """Write lines as they come, where all targets are text."""
        if len(self._targets) > 1:
            lines = list(lines)
        for target in self._targets:
            self._write_lines(target, lines)
        self._written += 1

    def _write_json(self, target: Target, document: object) -> None:
        from vhdtool.report.encode import to_json  # noqa: PLC0415  # --help does not need it

        if target.file is not None:
            with writing(target.file):
                self._file(target.file, "wb").write(to_json(document))
            return
        encoded = to_json(document, pretty=sys.stdout.isatty())
        write_bytes(encoded)

    def _write_blocks(self, target: Target, blocks: Iterable[Block]) -> None:
        from vhdtool.report.blocks import plain  # noqa: PLC0415

        terminal = look_at(sys.stdout, self._color)
        if target.file is not None or not terminal.drawn:
            separated = [""] if self._written else []
            self._write_lines(target, itertools.chain(separated, plain(blocks)))
            return
        from vhdtool.report.styled import draw  # noqa: PLC0415  # rich is slow to import

        with writing("stdout"):
            if self._written:
                sys.stdout.write("\n")
            draw(blocks, sys.stdout, color=terminal.color, columns=None if terminal.interactive else PIPE_WIDTH)

    def _write_lines(self, target: Target, lines: Iterable[str]) -> None:
        stream: TextIO = sys.stdout if target.file is None else self._file(target.file, "w")
        for line in lines:  # reading the image happens here too: only the writing is guarded
            with writing(target.file or "stdout"):
                stream.write(f"{line}\n")

    def _file(self, name: str, mode: str) -> Any:
        if name not in self._files:
            if any(_same_file(name, read) for read in self._inputs):
                raise UsageError("output-is-input", "the output file is the image that is read", path=name)
            with writing(name):
                self._files[name] = _open(name, mode)
        return self._files[name]


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Turn the host's refusal to take more into :class:`OutputError`; a pipe that nobody reads stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        from vhdtool.report.host_files import output_error  # noqa: PLC0415

        raise output_error(error, name) from error


def write_bytes(data: bytes) -> None:
    """Write to stdout as it is, in order with the text before it."""
    with writing("stdout"):
        sys.stdout.flush()
        buffer = sys.stdout.buffer
        buffer.write(data)
        buffer.flush()


def flush_stdout() -> None:
    """Send off what is buffered."""
    with writing("stdout"):
        sys.stdout.flush()


def _open(name: str, mode: str) -> Any:
    if "b" in mode:
        return Path(name).open(mode)
    return Path(name).open(mode, encoding="utf-8", errors="backslashreplace", newline="\n")


def _same_file(name: str, other: Path) -> bool:
    try:
        return Path(name).samefile(other)
    except OSError:
        return False
