"""The two headers of a VHDX that is open for writing, changed so that one of them is always right (MS-VHDX 2.2.2.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.host_store import HostFile
from vhdtool.disk.vhdx_header import Header, encode_header, read_headers

SECTOR: Final = 512
HIGHEST_SEQUENCE: Final = (1 << 64) - (1 << 32)
"""From this sequence number on a file is not written to: no honest writer has come so far."""


class HeaderSlots:
    """The header in effect, and the slot that is written next.

    Everything that a header says stands in its first 512 bytes, and a sector is written whole or not at all; so where
    the rest of a slot holds zeros already, only that sector is written, and a power cut leaves no damaged header.
    Raises as :func:`vhdtool.disk.vhdx_header.read_headers`.
    """

    def __init__(self, file: HostFile) -> None:
        (first, _), self.header, _ = read_headers(file, path=file.path)
        self._file = file
        self._next = int(first.current)

    def write(self, header: Header) -> None:
        """Put ``header`` into both slots, each flushed before the next; its sequence number is not used.

        When the first slot is on stable storage the header is in effect.
        """
        for _ in fmt.HEADER_OFFSETS:
            self.header = replace(header, sequence_number=self.header.sequence_number + 1)
            data = encode_header(self.header)
            offset = fmt.HEADER_OFFSETS[self._next]
            rest = self._file.read_at(offset + SECTOR, fmt.HEADER_SIZE - SECTOR)
            self._file.write_at(offset, data[:SECTOR] if rest == data[SECTOR:] else data)
            self._file.flush()
            self._next = 1 - self._next
