from __future__ import annotations

import random
import time

import pytest
from asn1crypto import algos, cms, core, parser, x509

from scripts.fixtures.signed_package import SPC_INDIRECT_DATA, Signing, Stamp, signed_message
from scripts.fixtures.test_authority import intermediate, signer
from tests.data_files import data_file
from tests.package.signing import CONTENT, NOW, authority_roots, signature
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.package.authenticode import find_signature, read_signature
from vhdtool.package.der import MAX_SIZE
from vhdtool.package.pkcs7 import MAX_CERTIFICATES, MAX_NESTED, read_signed_message, signer_fault
from vhdtool.package.signature import check_signatures, combined_state

GENUINE = "cab/marcinbojko__hvintegrationservices/Windows6.x-HyperVIntegrationServices-x64.cab"
CODES = {"der-damaged", "signature-damaged"}


def sequence(*parts: bytes) -> bytes:
    return parser.emit(0, 1, 16, b"".join(parts))


def refused(data: bytes) -> DamagedError:
    with pytest.raises(DamagedError) as caught:
        read_signed_message(data, path="a.cab")
    assert caught.value.code in CODES
    assert caught.value.path == "a.cab"
    assert caught.value.hint
    return caught.value


def test_what_is_read():
    message = read_signed_message(signature(Signing()))
    assert message.content_type == SPC_INDIRECT_DATA
    assert message.content_der == CONTENT
    assert CONTENT.endswith(message.content)
    names = {one.subject_name for one in message.certificates}
    assert names == {"vhdtool Test Signer", "vhdtool Test PCA", "vhdtool Test Time Stamps"}
    (one,) = message.signers
    assert one.serial == 3
    assert one.digest == "sha256"
    certificate = one.certificate(message.certificates)
    assert certificate is not None
    assert certificate.der == signer().certificate
    assert message.nested == ()


@pytest.mark.data
def test_a_genuine_signature_with_one_nested_in_it():
    source = BytesSource(data_file(GENUINE).read_bytes())
    place = find_signature(source)
    assert place is not None
    message = read_signed_message(read_signature(source, place))
    assert [len(message.certificates), len(message.nested), len(message.nested[0].certificates)] == [4, 1, 2]
    assert [one.digest for one in (*message.signers, *message.nested[0].signers)] == ["sha1", "sha256"]


def test_zeros_may_follow_and_nothing_else():
    blob = signature(Signing())
    assert read_signed_message(blob + bytes(7)) == read_signed_message(blob)
    assert refused(blob + b"\0\1").code == "signature-damaged"


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"MSCF" * 10, b"\x30\x00", b"\xff" * 100]
)
def test_no_message_at_all(data: bytes):
    refused(data)


def test_too_long():
    refused(bytes(MAX_SIZE + 1))


def test_cut_off_anywhere():
    blob = signature(Signing())
    for length in range(0, len(blob), 61):
        refused(blob[:length])


@pytest.mark.parametrize("depth", [500, 100_000])
def test_lengths_left_open_without_end(depth: int):
    refused(b"\x30\x80" * depth + b"\0\0" * depth)


def test_another_kind_of_message():
    blob = signature(Signing())
    enveloped = blob.replace(bytes.fromhex("06092a864886f70d010702"), bytes.fromhex("06092a864886f70d010703"), 1)
    refused(enveloped)


def test_too_many_certificates():
    beside = (intermediate(),) * (MAX_CERTIFICATES + 1)
    assert refused(signature(Signing(beside=beside))).code == "signature-damaged"


def test_signatures_nested_too_deep():
    blob = signature(Signing(stamps=()))
    for _ in range(MAX_NESTED):
        blob = signature(Signing(stamps=()), blob)
    assert len(read_signed_message(blob).nested) == 1
    assert refused(signature(Signing(stamps=()), blob)).code == "signature-damaged"


def test_an_attribute_that_stands_twice():
    stamps = (Stamp(), Stamp())
    assert refused(signature(Signing(stamps=stamps))).code == "signature-damaged"


def test_an_unknown_digest():
    blob = signature(Signing())
    sha256 = bytes.fromhex("0609608648016503040201")
    assert refused(blob.replace(sha256, sha256[:-1] + b"\x0c")).code == "signature-damaged"


def test_digests_of_the_message_and_of_its_signers_agree():
    blob = signature(Signing())
    sha256 = bytes.fromhex("0609608648016503040201")
    assert refused(blob.replace(sha256, sha256[:-1] + b"\x02", 1)).code == "signature-damaged"


PLAIN = Signing(stamps=())


def edited(blob: bytes, found: bytes, put: bytes, *, last: bool = False) -> bytes:
    """The message with other bytes at the first or last place where these stand."""
    at = blob.rindex(found) if last else blob.index(found)
    return blob[:at] + put + blob[at + len(found) :]


def test_algorithms_have_no_parameters():
    algorithm = algos.SignedDigestAlgorithm({"algorithm": "rsassa_pkcs1v15"}).dump()
    assert algorithm.endswith(b"\x05\x00")
    refused(edited(signature(PLAIN), algorithm, algorithm[:-2] + b"\x04\x00", last=True))


def test_versions_are_those_of_the_content():
    one, three = core.Integer(1).dump(), core.Integer(3).dump()
    of_message = edited(signature(PLAIN), one, three)
    of_signer = edited(signature(PLAIN), one + b"\x30", three + b"\x30", last=True)
    for changed in (of_message, of_signer):
        assert "version" in refused(changed).message


def test_a_certificate_whose_signature_is_no_whole_number_of_bytes():
    certificate = signer().certificate
    value = core.OctetBitString(x509.Certificate.load(certificate)["signature_value"].native).dump()
    for bits in (1, 7, 255):
        at = certificate.index(value)
        odd = certificate[: at + 4] + bytes([bits]) + certificate[at + 5 :]
        assert refused(edited(signature(PLAIN), certificate, odd)).code == "der-damaged"


@pytest.mark.parametrize("last", [False, True])
def test_certificates_that_are_called_revocation_lists(last: bool):
    """In the message, and in the token of its time stamp: the message's certificates would do for that too."""
    parsed = cms.ContentInfo.load(signature(Signing()))["content"]
    if last:
        token = parsed["signer_infos"][0]["unsigned_attrs"][0]["values"][0]
        parsed = cms.ContentInfo.load(token.dump())["content"]
    certificates = parsed["certificates"].dump()
    assert certificates[0] == 0xA0
    changed = edited(signature(Signing()), certificates, b"\xa1" + certificates[1:], last=last)
    if last:
        verdicts = check_signatures(read_signed_message(changed), authority_roots(), now=NOW)
        assert {problem.code for one in verdicts for problem in one.problems} >= {"countersignature-damaged"}
    else:
        refused(changed)


def fault(blob: bytes) -> str | None:
    message = read_signed_message(blob)
    certificate = message.signers[0].certificate(message.certificates)
    assert certificate is not None
    return signer_fault(message.signers[0], certificate, message.content_type, message.content)


def test_a_signer_names_one_digest():
    """sha384WithRSA over SHA-256: which of them was meant is not guessed, and not tried."""
    plain, other = (
        algos.SignedDigestAlgorithm({"algorithm": name}).dump() for name in ("rsassa_pkcs1v15", "sha384_rsa")
    )
    assert fault(signature(PLAIN)) is None
    assert fault(edited(signature(PLAIN), plain, other, last=True)) == "the signer names two digests"


def test_a_signer_that_signed_no_attributes():
    """Its signature is good, but says nothing of what kind the content is."""
    parsed = cms.ContentInfo.load(signature(PLAIN))["content"]
    bare = cms.SignedData()
    for field in ("version", "digest_algorithms", "encap_content_info", "certificates"):
        bare[field] = parsed[field]
    info = {name: parsed["signer_infos"][0][name] for name in ("version", "sid", "digest_algorithm")}
    info["signature_algorithm"] = {"algorithm": "rsassa_pkcs1v15"}
    info["signature"] = signer().sign(core.load(CONTENT).contents, "sha256")
    bare["signer_infos"] = [cms.SignerInfo(info)]
    blob = cms.ContentInfo({"content_type": "signed_data", "content": bare}).dump()
    assert fault(blob) == "the signer signed no attributes"


def test_a_message_of_the_wrong_type_is_not_signed():
    blob = signed_message("1.2.3.4.5", CONTENT, Signing())
    other = blob.replace(bytes.fromhex("06042a030405"), bytes.fromhex("06042a030406"), 1)
    verdicts = check_signatures(read_signed_message(other), authority_roots(), now=NOW)
    assert [problem.code for problem in verdicts[0].problems] == ["signature-mismatch"]


@pytest.mark.parametrize("nested", [False, True])
def test_a_changed_byte_is_an_error_or_breaks_the_signature(nested: bool):
    """Bytes that nothing signs are few: they are counted, so that their number does not grow unseen."""
    inner = signature(Signing()) if nested else None
    blob = signature(Signing(), inner)
    rng = random.Random(7)
    unnoticed = 0
    started = time.monotonic()
    places = rng.sample(range(len(blob)), 400)
    for offset in places:
        bad = bytearray(blob)
        bad[offset] ^= 1 << rng.randrange(8)
        try:
            verdicts = check_signatures(read_signed_message(bytes(bad)), authority_roots(), now=NOW)
        except DamagedError as error:
            assert error.code in CODES  # noqa: PT017  # either is right
            continue
        unnoticed += combined_state(verdicts) != "invalid"
    assert unnoticed <= len(places) // 50
    assert time.monotonic() - started < 30


def test_random_bytes_are_refused():
    rng = random.Random(11)
    for _ in range(300):
        refused(sequence(rng.randbytes(rng.randrange(200))))
