"""Signatures and catalogs that lie: one error of this package or a verdict that does not trust, in bounded time."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from scripts.fixtures.signed_package import SPC_INDIRECT_DATA, Signing, Stamp, catalog, indirect, signed_message
from tests.package.signing import authority_roots, read_catalog
from tests.property.bounds import bounded
from vhdtool.errors import DamagedError, InputError
from vhdtool.package.pkcs7 import read_signed_message
from vhdtool.package.signature import check_signatures, combined_state
from vhdtool.package.trust_roots import read_trust_roots

NOW = datetime(2026, 11, 23, tzinfo=UTC)
CODES = {"der-damaged", "signature-damaged", "catalog-damaged"}
CONTENT = indirect("sha256", bytes(32))
OLD = signed_message(SPC_INDIRECT_DATA, CONTENT, Signing(digest="sha1", stamps=(Stamp(kind="pkcs9", digest="sha1"),)))
SEEDS = (
    signed_message(SPC_INDIRECT_DATA, CONTENT, Signing(), OLD),
    signed_message(SPC_INDIRECT_DATA, CONTENT, Signing(stamps=())),
    catalog([b"one", b"two"]),
)
# tags, lengths and numbers that matter to a reader of DER
BYTES = st.sampled_from([0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x30, 0x31, 0x7F, 0x80, 0x82, 0x84, 0xA0, 0xA1, 0xFF])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["set", "cut", "double", "move"])):
            case "set":
                data[at] = draw(BYTES)
            case "cut":
                del data[at : at + draw(st.integers(1, 40))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case _:
                to = draw(st.integers(0, len(data) - 1))
                data[to : to + 8] = data[at : at + 8]
        if not data:
            return b""
    return bytes(data)


@given(damaged())
def test_damaged_signatures(data: bytes):
    with bounded():
        try:
            message = read_signed_message(data, path="a.cab")
        except DamagedError as error:
            assert error.code in CODES  # noqa: PT017  # either is right
            return
        verdicts = check_signatures(message, authority_roots(), now=NOW, path="a.cab")
        if combined_state(verdicts) == "valid":
            # the changed bytes are none that anybody signed: what was signed stands as it was
            assert message.content_der in {CONTENT, read_signed_message(SEEDS[2]).content_der}


@given(damaged())
def test_damaged_catalogs(data: bytes):
    with bounded():
        try:
            read_catalog(data, path="update.cat")
        except DamagedError as error:
            assert error.code in CODES  # noqa: PT017  # either is right


@given(st.binary(max_size=400))
def test_random_bytes(data: bytes):
    for read in (read_signed_message, read_catalog):
        try:
            read(data)
        except DamagedError as error:
            assert error.code in CODES  # noqa: PT017


@given(st.binary(max_size=400))
def test_random_roots(data: bytes):
    with bounded():
        try:
            read_trust_roots(data)
        except InputError as error:
            assert error.code in {"der-damaged", "no-certificate"}  # noqa: PT017
