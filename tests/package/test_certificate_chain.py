from __future__ import annotations

from datetime import UTC, datetime

import pytest
from asn1crypto import x509

from scripts.fixtures.test_authority import (
    CODE_SIGNING,
    TIME_STAMPING,
    Identity,
    intermediate,
    issue,
    lasting_signer,
    root,
)
from vhdtool.errors import DamagedError
from vhdtool.package import certificate_chain
from vhdtool.package.certificate import read_certificate
from vhdtool.package.certificate_chain import MAX_CHECKS, MAX_DEPTH, Chain, build_chain
from vhdtool.package.trust_roots import TrustRoot, read_trust_roots

AT = datetime(2016, 6, 25, tzinfo=UTC)


def chain(signer: Identity, *others: Identity, roots: tuple[TrustRoot, ...] | None = None) -> Chain:
    return build_chain(
        read_certificate(signer.certificate),
        [read_certificate(one.certificate) for one in others],
        read_trust_roots(root().certificate) if roots is None else roots,
        usage="code-signing",
        at=AT,
    )


def codes(found: Chain) -> list[str]:
    return sorted({problem.code for problem in found.problems})


def names(found: Chain) -> list[str]:
    return [one.subject_name for one in found.certificates]


def authority(name: str, issuer: Identity, **how: object) -> Identity:
    settings = {"serial": 20, "authority": True, "key_usage": ("key_cert_sign",), **how}
    return issue(name, 3, issuer, **settings)


def leaf(issuer: Identity, **how: object) -> Identity:
    return issue("Signer", 2, issuer, **{"serial": 30, "purposes": (CODE_SIGNING,), **how})


def test_a_good_chain_in_any_order():
    found = chain(lasting_signer(), authority("Another", root()), intermediate(), lasting_signer())
    assert not found.problems
    assert names(found) == ["vhdtool Lasting Signer", "vhdtool Test PCA"]
    assert found.root is not None
    assert not found.uses_sha1


def test_the_intermediate_is_missing():
    found = chain(lasting_signer())
    assert codes(found) == ["untrusted-root"]
    assert found.root is None


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"purposes": (TIME_STAMPING,)}, "wrong-usage"),
        ({"purposes": None}, "wrong-usage"),
        ({"purposes": ("2.5.29.37.0",)}, "wrong-usage"),
        ({"key_usage": ("key_encipherment",)}, "wrong-usage"),
        ({"critical": "1.2.3.4"}, "unknown-critical"),
        ({"not_after": datetime(2016, 1, 1, tzinfo=UTC)}, "expired"),
        ({"not_before": datetime(2017, 1, 1, tzinfo=UTC)}, "not-yet-valid"),
        ({"digest": "md5"}, "md5-refused"),
    ],
)
def test_signers_that_may_not(how: dict[str, object], code: str):
    assert codes(chain(leaf(root(), **how))) == [code]


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"authority": False}, "not-an-authority"),
        ({"purposes": (TIME_STAMPING,)}, "wrong-usage"),
        ({"key_usage": ("digital_signature",)}, "wrong-usage"),
        ({"critical": "1.2.3.4"}, "unknown-critical"),
        ({"not_after": datetime(2016, 1, 1, tzinfo=UTC)}, "expired"),
    ],
)
def test_authorities_that_may_not(how: dict[str, object], code: str):
    between = authority("Between", root(), **how)
    assert codes(chain(leaf(between), between)) == [code]


def test_authorities_that_may():
    for how in ({"purposes": (CODE_SIGNING,)}, {"purposes": ("2.5.29.37.0",)}, {"key_usage": None}):
        between = authority("Between", root(), **how)
        assert codes(chain(leaf(between), between)) == []


def test_an_authority_that_allows_none_below_it():
    below = issue("Below", 3, intermediate(), serial=21, authority=True)  # the test PCA allows none
    assert codes(chain(leaf(below), below, intermediate())) == ["chain-too-long"]


def test_a_root_that_expired():
    old = issue("Old Root", 4, None, serial=1, authority=True, not_after=datetime(2015, 1, 1, tzinfo=UTC))
    assert codes(chain(leaf(old), roots=read_trust_roots(old.certificate))) == ["expired"]


def test_a_root_for_time_stamps_alone_signs_no_code():
    (added,) = read_trust_roots(root().certificate)
    stamps_only = TrustRoot(added.certificate, frozenset({"time-stamping"}), True)
    assert codes(chain(leaf(root()), roots=(stamps_only,))) == ["untrusted-root"]


def test_drivers_of_other_makers_are_not_packages_of_windows():
    (added,) = read_trust_roots(root().certificate)
    pinned = TrustRoot(added.certificate, added.usages, True)
    hardware = leaf(root(), purposes=(CODE_SIGNING, "1.3.6.1.4.1.311.10.3.5"))
    assert codes(chain(hardware, roots=(pinned,))) == ["signed-for-another-maker"]
    assert codes(chain(hardware, roots=(added,))) == []
    windows = leaf(root(), purposes=(CODE_SIGNING, "1.3.6.1.4.1.311.10.3.5", "1.3.6.1.4.1.311.10.3.6"))
    assert codes(chain(windows, roots=(pinned,))) == []


def test_a_forged_intermediate_is_not_followed():
    genuine = authority("Between", root())
    forged = issue("Between", 4, genuine, serial=22, authority=True)  # the name, with another key
    assert codes(chain(leaf(genuine), forged, genuine)) == []
    assert codes(chain(leaf(genuine), forged)) == ["untrusted-root"]


def test_the_chain_without_fault_is_preferred():
    expired = authority("Between", root(), not_after=datetime(2016, 1, 1, tzinfo=UTC), serial=23)
    renewed = authority("Between", root(), serial=24)
    found = chain(leaf(expired), expired, renewed)
    assert not found.problems
    assert found.certificates[1].serial == 24


def test_two_that_signed_each_other_end():
    one = authority("One", Identity("Two", root().key, authority("Two", root()).certificate), serial=25)
    two = issue("Two", 0, one, serial=26, authority=True)
    assert codes(chain(leaf(one), one, two)) == ["untrusted-root"]


def test_a_long_line_of_authorities_is_given_up():
    line = [authority("Authority 0", root())]
    for number in range(1, MAX_DEPTH + 2):
        line.append(authority(f"Authority {number}", line[-1], serial=100 + number))
    assert codes(chain(leaf(line[MAX_DEPTH - 2]), *line)) == []
    assert codes(chain(leaf(line[-1]), *line)) == ["untrusted-root"]


def test_many_of_one_name_cost_a_bounded_number_of_checks(monkeypatch: pytest.MonkeyPatch):
    same = [
        authority("Same", Identity("Same", root().key, authority("Same", root()).certificate), serial=n)
        for n in range(2, 60)
    ]
    counted = []
    real = certificate_chain.signature_fits

    def counting(*arguments: object) -> bool:
        counted.append(1)
        return bool(real(*arguments))  # type: ignore[arg-type]

    monkeypatch.setattr(certificate_chain, "signature_fits", counting)
    assert codes(chain(leaf(same[0]), *same)) == ["untrusted-root"]
    assert len(counted) <= MAX_CHECKS


def test_a_certificate_that_contradicts_itself():
    """Two algorithms, or an extension twice: which of them counts would differ from reader to reader."""
    two = x509.Certificate.load(lasting_signer().certificate)
    two["signature_algorithm"] = {"algorithm": "sha384_rsa"}
    twice = x509.Certificate.load(lasting_signer().certificate)
    extensions = twice["tbs_certificate"]["extensions"]
    extensions.append(extensions[0].copy())
    for bad in (two, twice):
        with pytest.raises(DamagedError) as caught:
            read_certificate(bad.dump(force=True))
        assert caught.value.code == "der-damaged"
