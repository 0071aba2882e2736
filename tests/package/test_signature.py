from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from scripts.fixtures.signed_package import Signing, Stamp
from scripts.fixtures.test_authority import (
    CODE_SIGNING,
    TIME_STAMPING,
    intermediate,
    issue,
    lasting_signer,
    stranger_root,
    time_stamper,
)
from tests.package.signing import NOW, authority_roots, codes, judged, signature
from vhdtool.package.pkcs7 import read_signed_message
from vhdtool.package.signature import check_signatures, combined_state
from vhdtool.package.trust_roots import microsoft_roots, read_trust_roots

IN_2016, IN_2018 = datetime(2016, 6, 25, tzinfo=UTC), datetime(2018, 6, 25, tzinfo=UTC)
WITH_ALL = (intermediate(), time_stamper())
SHA1 = Signing(digest="sha1", stamps=(Stamp(kind="pkcs9", digest="sha1", when=IN_2016),))
LATE_SHA1 = Signing(by=lasting_signer(), digest="sha1", stamps=(Stamp(kind="pkcs9", digest="sha1", when=IN_2018),))


@pytest.mark.parametrize("kind", ["rfc3161", "pkcs9"])
def test_expired_signer_with_a_countersignature_of_its_time_is_valid(kind):
    (verdict,) = judged(Signing(stamps=(Stamp(kind=kind, when=IN_2016),)))
    assert verdict.state == "valid", verdict.problems
    assert verdict.signed_at == IN_2016
    assert verdict.countersignature == kind
    assert verdict.chain == ("vhdtool Test Signer", "vhdtool Test PCA", "vhdtool Test Root")
    assert verdict.root == "vhdtool Test Root"
    assert not verdict.root_is_pinned


def test_expired_signer_without_countersignature_is_invalid():
    verdicts = judged(Signing(stamps=()))
    assert combined_state(verdicts) == "invalid"
    assert codes(verdicts) == {"expired"}


def test_without_countersignature_the_clock_decides():
    assert combined_state(judged(Signing(stamps=()), now=IN_2016)) == "valid"
    assert codes(judged(Signing(stamps=()), now=datetime(2015, 1, 1, tzinfo=UTC))) == {"not-yet-valid"}
    assert combined_state(judged(Signing(by=lasting_signer(), stamps=()))) == "valid"


def test_countersigned_before_or_after_the_certificate_was_valid():
    assert codes(judged(Signing(stamps=(Stamp(when=IN_2018),)))) == {"expired"}
    assert codes(judged(Signing(stamps=(Stamp(when=datetime(2015, 1, 1, tzinfo=UTC)),)))) == {"not-yet-valid"}


def test_countersigned_after_today():
    verdicts = judged(Signing(by=lasting_signer()), now=datetime(2012, 1, 1, tzinfo=UTC))
    assert codes(verdicts) == {"signed-in-the-future"}


@pytest.mark.parametrize("kind", ["rfc3161", "pkcs9"])
def test_countersignature_of_another_signature(kind):
    verdicts = judged(Signing(by=lasting_signer(), stamps=(Stamp(kind=kind, of=b"another signature"),)))
    assert codes(verdicts) == {"countersignature-mismatch"}


@pytest.mark.parametrize("kind", ["rfc3161", "pkcs9"])
def test_countersigner_that_is_no_time_stamper(kind):
    other = issue("No Time Stamper", 3, intermediate(), serial=40, purposes=(CODE_SIGNING,))
    verdicts = judged(Signing(beside=(*WITH_ALL, other), stamps=(Stamp(kind=kind, by=other),)))
    assert "wrong-usage" in codes(verdicts)


def test_countersigner_of_a_stranger():
    other = issue("Strange Time Stamps", 3, stranger_root(), serial=41, purposes=(TIME_STAMPING,))
    assert "untrusted-root" in codes(judged(Signing(stamps=(Stamp(by=other),))))


@pytest.mark.parametrize("imprint", ["md5", "sha1"])
def test_time_stamp_with_a_digest_that_no_longer_counts(imprint):
    """The token's own signature is good; what it has of the signature it stamps is not."""
    late = Signing(by=lasting_signer(), stamps=(Stamp(imprint=imprint, when=IN_2018),))
    if imprint == "md5":
        assert "md5-refused" in codes(judged(late))
        return
    (verdict,) = judged(late)
    assert (verdict.state, verdict.signed_at) == ("valid", None)  # it proves no time, and none is needed
    assert codes(judged(Signing(stamps=(Stamp(imprint=imprint, when=IN_2018),)))) == {"expired"}
    (verdict,) = judged(Signing(stamps=(Stamp(imprint=imprint, when=IN_2016),)))
    assert (verdict.state, verdict.signed_at) == ("weak", IN_2016)


def test_time_stamp_that_names_another_certificate():
    stamp = Stamp(names=lasting_signer())
    assert codes(judged(Signing(by=lasting_signer(), stamps=(stamp,)))) == {"countersignature-mismatch"}


def test_the_earlier_of_two_time_stamps_counts():
    later = datetime(2016, 11, 1, tzinfo=UTC)
    for stamps in ((Stamp(when=later), Stamp(kind="pkcs9")), (Stamp(), Stamp(kind="pkcs9", when=later))):
        (verdict,) = judged(Signing(stamps=stamps))
        assert verdict.state == "valid", verdict.problems
        assert verdict.signed_at == min(stamp.when for stamp in stamps)


@pytest.mark.parametrize("kind", ["rfc3161", "pkcs9"])
def test_sha1_of_the_counter_signature_alone_is_weak(kind):
    (verdict,) = judged(Signing(stamps=(Stamp(kind=kind, digest="sha1", when=IN_2016),)))
    assert verdict.state == "weak"


def test_a_counter_signer_whose_certificate_was_made_with_sha1():
    old = issue("Old Time Stamps", 3, intermediate(), serial=49, purposes=(TIME_STAMPING,), digest="sha1")
    (verdict,) = judged(Signing(stamps=(Stamp(by=old, when=IN_2016),)))
    assert verdict.state == "weak"
    assert codes(judged(Signing(stamps=(Stamp(by=old, when=IN_2018),)))) == {"expired"}


def test_a_counter_signer_that_was_not_valid_then():
    gone = issue(
        "Gone Time Stamps", 3, intermediate(), serial=50, purposes=(TIME_STAMPING,),
        not_after=datetime(2015, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert "expired" in codes(judged(Signing(by=lasting_signer(), stamps=(Stamp(by=gone),))))


def test_an_attribute_that_nothing_signs_is_told():
    message = read_signed_message(signature(Signing()))
    (signer,) = message.signers
    more = replace(signer, unsigned={**signer.unsigned, "1.2.3.4": (b"\x05\x00",)})
    verdicts = check_signatures(replace(message, signers=(more,)), authority_roots(), now=NOW)
    assert codes(verdicts) == {"unknown-attribute"}
    assert combined_state(verdicts) == "invalid"


def test_wrong_root():
    assert codes(judged(Signing(), roots=microsoft_roots())) == {"untrusted-root"}
    assert codes(judged(Signing(stamps=(), by=lasting_signer()), roots=())) == {"untrusted-root"}


def test_root_of_the_same_name_with_another_key():
    other = issue("vhdtool Test Root", 4, None, serial=1, authority=True)
    assert codes(judged(Signing(), roots=read_trust_roots(other.certificate))) == {"untrusted-root"}


def test_signer_that_signs_for_its_own_lifetime_only():
    by = issue(
        "Lifetime",
        2,
        intermediate(),
        serial=42,
        not_after=datetime(2020, 1, 1, tzinfo=UTC),
        purposes=(CODE_SIGNING, "1.3.6.1.4.1.311.10.3.13"),
    )
    assert codes(judged(Signing(by=by))) == {"expired"}
    assert combined_state(judged(Signing(by=by), now=IN_2018)) == "valid"


def test_sha1_countersigned_before_2017_is_weak():
    (verdict,) = judged(SHA1)
    assert verdict.state == "weak", verdict.problems
    assert combined_state([verdict]) == "weak"


def test_sha1_after_2016_is_refused():
    verdicts = judged(LATE_SHA1)
    assert codes(verdicts) == {"sha1-too-late"}
    assert combined_state(verdicts) == "invalid"


def test_sha1_without_countersignature_is_refused():
    verdicts = judged(Signing(by=lasting_signer(), digest="sha1", stamps=()))
    assert codes(verdicts) == {"sha1-too-late"}
    assert combined_state(verdicts) == "invalid"


def test_sha1_countersignature_of_2018_proves_no_time():
    stamp = Stamp(kind="pkcs9", digest="sha1", when=IN_2018)
    assert codes(judged(Signing(stamps=(stamp,)))) == {"expired"}
    (verdict,) = judged(Signing(by=lasting_signer(), stamps=(stamp,)))
    assert verdict.state == "valid"
    assert verdict.signed_at is None


def test_certificate_signed_with_sha1_counts_like_a_signature():
    by = issue("Old Signer", 2, intermediate(), serial=43, purposes=(CODE_SIGNING,), digest="sha1")
    assert combined_state(judged(Signing(by=by))) == "weak"
    assert codes(judged(Signing(by=by, stamps=(Stamp(when=IN_2018),)))) == {"sha1-too-late"}


def test_md5_is_refused():
    assert "md5-refused" in codes(judged(Signing(digest="md5")))
    by = issue("Ancient Signer", 2, intermediate(), serial=44, purposes=(CODE_SIGNING,), digest="md5")
    assert "md5-refused" in codes(judged(Signing(by=by)))


def test_nested_signature_makes_a_weak_one_valid():
    verdicts = judged(SHA1, nested=signature(Signing()))
    assert [(one.place, one.digest, one.state) for one in verdicts] == [
        ("primary", "sha1", "weak"),
        ("nested 1", "sha256", "valid"),
    ]
    assert combined_state(verdicts) == "valid"


def test_late_sha1_beside_a_good_one_takes_nothing_from_it():
    assert combined_state(judged(LATE_SHA1, nested=signature(Signing()))) == "valid"


def test_late_sha1_of_an_expired_signer_beside_a_good_one():
    by = issue(
        "Signer of 2018",
        2,
        intermediate(),
        serial=45,
        not_after=datetime(2019, 1, 1, tzinfo=UTC),
        purposes=(CODE_SIGNING,),
    )
    how = Signing(by=by, digest="sha1", stamps=LATE_SHA1.stamps)
    assert codes(judged(how)) == {"sha1-too-late"}
    assert combined_state(judged(how, nested=signature(Signing()))) == "valid"


def test_broken_nested_signature_breaks_the_file():
    assert combined_state(judged(SHA1, nested=signature(Signing(stamps=())))) == "invalid"
    assert combined_state(judged(Signing(), nested=signature(LATE_SHA1))) == "valid"


def test_signers_certificate_left_out():
    message = read_signed_message(signature(Signing()))
    others = tuple(one for one in message.certificates if one.subject_name != "vhdtool Test Signer")
    verdicts = check_signatures(replace(message, certificates=others), authority_roots(), now=NOW)
    assert codes(verdicts) == {"certificate-missing"}
    assert combined_state(verdicts) == "invalid"


def test_certificates_that_nobody_issued_are_told():
    other = issue("Left Over", 2, stranger_root(), serial=48)
    assert codes(judged(Signing(beside=(*WITH_ALL, other)))) == {"stray-certificate"}
    assert codes(judged(Signing(beside=(*WITH_ALL, lasting_signer())))) == set()


def test_changed_signature_is_found():
    blob = signature(Signing())
    value = read_signed_message(blob).signers[0].signature
    at = blob.index(value)
    changed = bytearray(blob)
    changed[at + 100] ^= 1
    verdicts = check_signatures(read_signed_message(bytes(changed)), authority_roots(), now=NOW)
    # the time stamp is of the signature as it was
    assert codes(verdicts) == {"signature-mismatch", "countersignature-mismatch"}


def test_a_signer_that_signed_itself_is_trusted_where_the_user_says_so():
    own = issue("Signs Itself", 4, None, serial=47, purposes=(CODE_SIGNING,))
    how = Signing(by=own, beside=(), stamps=())
    assert codes(judged(how)) == {"untrusted-root"}
    (verdict,) = judged(how, roots=read_trust_roots(own.certificate))
    assert verdict.state == "valid", verdict.problems
    assert verdict.chain == ("Signs Itself",)
