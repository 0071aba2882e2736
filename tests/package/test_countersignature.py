"""Counter signatures that are odd in themselves; how they bear on a signature: test_signature.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from asn1crypto import cms

from scripts.fixtures.signed_package import NESTED, Signing, Stamp
from scripts.fixtures.test_authority import lasting_signer
from tests.data_files import data_file
from tests.package.signing import NOW, authority_roots, codes, judged, signature
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.package import countersignature
from vhdtool.package.authenticode import find_signature, read_signature
from vhdtool.package.countersignature import MAX_COUNTERSIGNATURES, PKCS9, RFC3161, check_countersignatures
from vhdtool.package.pkcs7 import read_signed_message
from vhdtool.package.signature import check_signatures, combined_state
from vhdtool.package.trust_roots import microsoft_roots


def found(unsigned: dict[str, tuple[bytes, ...]], how: Signing | None = None) -> set[str]:
    """The problems of a signature's counter signatures, where it has these."""
    message = read_signed_message(signature(how or Signing()))
    (signer,) = message.signers
    checked = check_countersignatures(message, replace(signer, unsigned=unsigned), authority_roots(), path="a.cab")
    return {problem.code for one in checked for problem in one.problems}


def token(how: Signing | None = None) -> bytes:
    (signer,) = read_signed_message(signature(how or Signing())).signers
    return signer.unsigned[RFC3161][0]


def test_a_token_that_is_none():
    assert found({RFC3161: (token(),)}) == set()
    assert found({RFC3161: (signature(Signing(stamps=())),)}) == {"countersignature-damaged"}  # it signs no TSTInfo
    for broken in (b"", b"\x30\x00", token()[:-1]):
        assert found({RFC3161: (broken,)}) == {"countersignature-damaged"}


def test_a_token_of_two_signers():
    outer = cms.ContentInfo.load(token())
    signers = [one.copy() for one in outer["content"]["signer_infos"]]
    bare = cms.SignedData()
    for field in ("version", "digest_algorithms", "encap_content_info", "certificates"):
        bare[field] = outer["content"][field]
    bare["signer_infos"] = signers * 2
    double = cms.ContentInfo({"content_type": "signed_data", "content": bare}).dump()
    assert found({RFC3161: (double,)}) == {"countersignature-damaged"}


def test_a_pkcs9_counter_signature_states_one_time(monkeypatch: pytest.MonkeyPatch):
    how = Signing(stamps=(Stamp(kind="pkcs9"),))
    (signer,) = read_signed_message(signature(how)).signers
    good = {PKCS9: signer.unsigned[PKCS9]}
    assert found(good, how) == set()
    real = countersignature.read_signer
    for values in ((), (b"\x17\x0d160625202203Z",) * 2, (b"\x05\x00",)):
        changed = {countersignature.SIGNING_TIME: values}
        monkeypatch.setattr(
            countersignature,
            "read_signer",
            lambda data, path, changed=changed: replace(one := real(data, path=path), signed={**one.signed, **changed}),
        )
        assert found(good, how) == {"countersignature-damaged"}


@pytest.mark.parametrize("kind", ["rfc3161", "pkcs9"])
def test_md5(kind: str):
    how = Signing(by=lasting_signer(), stamps=(Stamp(kind=kind, digest="md5"),))
    assert "md5-refused" in codes(judged(how))


def test_too_many():
    stamps = tuple(Stamp(when=datetime(2016, 1, 2, n, tzinfo=UTC)) for n in range(3))
    (signer,) = read_signed_message(signature(Signing(stamps=stamps[:1]))).signers
    one = signer.unsigned[RFC3161]
    assert NESTED not in signer.unsigned
    assert found({RFC3161: one * MAX_COUNTERSIGNATURES}, Signing(stamps=stamps[:1])) == set()
    assert found({RFC3161: one * (MAX_COUNTERSIGNATURES + 1)}, Signing(stamps=stamps[:1])) == {
        "countersignature-damaged"
    }


def test_a_token_that_says_nothing_of_its_certificate():
    """RFC 3161 section 2.4.2 asks for it: without, another certificate of the same key would do as well."""
    assert codes(judged(Signing(by=lasting_signer(), stamps=(Stamp(ties=False),)))) == {"countersignature-mismatch"}


HELD = bytes.fromhex("300b 3003020101 3000 03020007")
"""Stands for an attribute certificate: what it certifies, an algorithm, a signature; nobody here reads them."""


def test_an_attribute_certificate_that_the_token_vouches_for():
    (verdict,) = judged(Signing(stamps=(Stamp(holds=HELD),)))
    assert verdict.state == "valid", verdict.problems


def test_an_attribute_certificate_that_nothing_vouches_for():
    other = HELD[:-1] + b"\x08"
    assert codes(judged(Signing(by=lasting_signer(), stamps=(Stamp(holds=HELD, vouches=other),)))) == {
        "stray-certificate"
    }
    # its signer named it, yet it stands there as a certificate of another kind
    good = signature(Signing(by=lasting_signer(), stamps=(Stamp(holds=HELD),)))
    for tag in (b"\xa0", b"\xa2", b"\xa3"):
        changed = good.replace(b"\xa1" + HELD[1:], tag + HELD[1:])
        assert changed != good
        verdicts = check_signatures(read_signed_message(changed), authority_roots(), now=NOW)
        assert codes(verdicts), tag


def test_an_attribute_certificate_outside_a_time_stamp():
    message = replace(read_signed_message(signature(Signing())), other_certificates=(b"\xa1" + HELD[1:],))
    assert codes(check_signatures(message, authority_roots(), now=NOW)) == {"stray-certificate"}


@pytest.mark.data
@pytest.mark.parametrize("name", ["2", "x"])
def test_the_attribute_certificate_of_a_genuine_time_stamp(name: str):
    """nCipher's devices put one into their tokens, and name it by SHA-1 in what they sign."""
    data = data_file(f"cab/marcinbojko__hvintegrationservices/Windows6.{name}-HyperVIntegrationServices-x64.cab")
    source = BytesSource(data.read_bytes())
    place = find_signature(source)
    assert place is not None
    whole = read_signature(source, place)
    (nested,) = read_signed_message(whole).nested
    token = read_signed_message(nested.signers[0].unsigned[RFC3161][0])
    (held,) = token.other_certificates
    assert len(held) > 500
    at = whole.index(held)
    for offset in range(0, len(held), 61):
        bad = bytearray(whole)
        bad[at + offset] ^= 0x04
        try:
            verdicts = check_signatures(read_signed_message(bytes(bad)), microsoft_roots(), now=NOW)
        except DamagedError:
            continue
        assert combined_state(verdicts) == "invalid", offset
