"""The Authenticode signature of a cabinet: where it stands, what it covers, and whether the bytes are those signed.

The signature is appended to the cabinet; a header reserve of 20 bytes says where. It covers the file up to there but
for the fields that signing writes:

=========  =====================================================================
bytes      covered by the digest
=========  =====================================================================
0 to 4     yes: ``MSCF``
4 to 8     no: reserved1, zero
8 to 34    yes: sizes, version, counts, flags, set ID
34 to 56   no: iCabinet, the sizes of the reserves, and the signature's place
56 to 60   yes: the last four bytes of the reserve
60 to end  yes: up to the signature's first byte
=========  =====================================================================

Source: the digest recomputed on genuine cabinets of Microsoft and on those osslsigncode signs; the fields are those
of MS-CAB section 2.1 (CFHEADER). What the digest leaves out has one right value each, so a change there is found too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from construct import Bytes, Int8ul, Int16ul, Int32ul, Padding, Struct

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.errors import DamagedError, Problem
from vhdtool.layout import offset_of, packed
from vhdtool.package.cabinet_format import RESERVE_FLAG
from vhdtool.package.der import reading
from vhdtool.package.pkcs7 import SignedMessage
from vhdtool.package.public_key import DIGESTS

SIGNED_HEADER = Struct(
    "magic" / Bytes(4),
    "reserved1" / Int32ul,
    "size" / Int32ul,
    "reserved2_to_counts" / Padding(18),
    "flags" / Int16ul,
    "set_id" / Padding(2),
    "number_in_set" / Int16ul,
    "reserve_size" / Int16ul,
    "folder_reserve_size" / Int8ul,
    "data_reserve_size" / Int8ul,
    "reserve_mark" / Int32ul,
    "signature_offset" / Int32ul,
    "signature_size" / Int32ul,
    "reserve_unused" / Int32ul,
    "reserve_covered" / Int32ul,
)
"""A cabinet's header with the reserve of a signed one."""
RESERVE_SIZE = 20
RESERVE_MARK = 0x00100000
COVERED = ((0, 4), (8, 34), (56, 60))
"""The parts of the first 60 bytes that the digest covers; from there on all is covered."""
SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
MAX_SIGNATURE = 4 << 20
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class SignaturePlace:
    """Where a cabinet's signature stands, in bytes of the file, and what is wrong in the fields it does not cover."""

    offset: int
    size: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class IndirectDigest:
    """What a signature says of the file: its digest, by which algorithm."""

    algorithm: str
    digest: bytes


def find_signature(source: ByteSource, *, path: str | None = None, number_in_set: int = 0) -> SignaturePlace | None:
    """Return where a cabinet's signature stands; None where it has no place for one, or an empty one.

    ``number_in_set``: which part of its set the file is.

    Raises:
        DamagedError: ``truncated``; ``signature-damaged``: it is said to stand outside the file.
    """
    layout = packed(SIGNED_HEADER)
    if source.size < layout.size:
        return None
    raw = read_exactly(source, 0, layout.size, path=path, what="the cabinet's header")
    header = SIGNED_HEADER.parse(raw)
    if not header.flags & RESERVE_FLAG or header.reserve_size != RESERVE_SIZE or header.signature_size == 0:
        return None
    offset, size = header.signature_offset, header.signature_size
    if offset < layout.size or offset + size > source.size or size > MAX_SIGNATURE:
        raise DamagedError(
            "signature-damaged",
            "the signature is not where the cabinet says",
            path=path,
            offset=offset_of(SIGNED_HEADER, "signature_offset"),
            expected=f"inside the file's {source.size} bytes, at most {MAX_SIGNATURE} bytes long",
            found=f"{offset} to {offset + size}",
            hint="The file is cut off or damaged: copy it again from where it came from.",
        )
    wanted = {
        "reserved1": 0,
        "size": offset,  # the signature follows the cabinet at once
        "number_in_set": number_in_set,
        "folder_reserve_size": 0,
        "data_reserve_size": 0,
        "reserve_mark": RESERVE_MARK,
        "signature_size": source.size - offset,  # and ends the file
        "reserve_unused": 0,
    }
    problems = tuple(
        Problem(
            "header-changed",
            f"the header's {name.replace('_', ' ')} is {header[name]}, in a signed cabinet it is {value}",
            path,
            offset_of(SIGNED_HEADER, name),
        )
        for name, value in wanted.items()
        if header[name] != value
    )
    return SignaturePlace(offset, size, problems)


def read_signature(source: ByteSource, place: SignaturePlace, *, path: str | None = None) -> bytes:
    """Return the appended signature, with its padding.

    Raises:
        DamagedError: ``truncated``.
    """
    return read_exactly(source, place.offset, place.size, path=path, what="the signature")


def cabinet_digests(source: ByteSource, end: int, algorithms: Iterable[str]) -> dict[str, bytes]:
    """Return the digests of a cabinet by the rule above, by algorithm; the file is read once.

    ``end`` is where the signature begins. ``algorithms`` are names of :mod:`hashlib`.
    """
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in sorted(set(algorithms))}
    for start, stop in COVERED:
        data = source.read_at(start, stop - start)
        for one in hashes.values():
            one.update(data)
    offset = packed(SIGNED_HEADER).size
    while offset < end:
        data = source.read_at(offset, min(_READ, end - offset))
        if not data:
            break  # the file ended: the digest is another then
        for one in hashes.values():
            one.update(data)
        offset += len(data)
    return {name: one.digest() for name, one in hashes.items()}


def indirect_digest(message: SignedMessage, *, path: str | None = None) -> IndirectDigest:
    """Read the digest of the file that a signature holds (SpcIndirectDataContent).

    Raises:
        DamagedError: ``signature-damaged``: the signature is of something else; ``der-damaged``.
    """
    if message.content_type != SPC_INDIRECT_DATA:
        raise DamagedError(
            "signature-damaged",
            "the signature is not of a file",
            path=path,
            expected=SPC_INDIRECT_DATA,
            found=message.content_type,
            hint="It was not made by a tool that signs cabinets.",
        )
    with reading("the signed digest", path):
        return read_indirect_data(message.content_der)


def read_indirect_data(der: bytes) -> IndirectDigest:
    """Read one SpcIndirectDataContent; to be called within :func:`vhdtool.package.der.reading`."""
    from vhdtool.package.authenticode_asn1 import SpcIndirectData  # noqa: PLC0415  # slow to import

    parsed = SpcIndirectData.load(der, strict=True)["message_digest"]
    algorithm = DIGESTS[parsed["digest_algorithm"]["algorithm"].dotted]
    digest = bytes(parsed["digest"].native)
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise ValueError("the digest has another length than its algorithm gives")
    return IndirectDigest(algorithm, digest)
