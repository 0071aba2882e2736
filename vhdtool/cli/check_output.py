"""Where the results of ``vhdtool check`` go: beside tables and JSON, what other programs read of all images at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vhdtool.cli.options import output_options_of
from vhdtool.cli.output import FORMATS, Output, Target, write_bytes, writing
from vhdtool.cli.terminal import ColorChoice

WHOLE_FORMATS = ("sarif", "junit")


class CheckOutput(Output):
    """Also takes formats that are one document for all images: these are written when the last one is done."""

    def __init__(self, targets: Sequence[Target], color: ColorChoice = "auto") -> None:
        super().__init__(targets, color)
        self._wholes = tuple(target for target in self._targets if target.format in WHOLE_FORMATS)
        self._targets = tuple(target for target in self._targets if target.format not in WHOLE_FORMATS)

    def emit_wholes(self, encoders: dict[str, Callable[[], bytes]]) -> None:
        """Write the formats that are asked for, each as its encoder makes it."""
        for target in self._wholes:
            encoded = encoders[target.format]()
            if target.file is None:
                write_bytes(encoded)
            else:
                with writing(target.file):
                    self._file(target.file, "wb").write(encoded)


check_output_options = output_options_of(CheckOutput, (*FORMATS, *WHOLE_FORMATS))
"""``-o table|json|sarif|junit``, and the rest of what commands have."""
