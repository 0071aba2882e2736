from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from scripts.fixtures.cab_files import (
    SIGNATURE_ROOM,
    STORED,
    CabFile,
    CabFolder,
    build_set,
)
from scripts.fixtures.signed_package import (
    COMPONENT,
    SPC_INDIRECT_DATA,
    TRUST_LIST,
    UPDATE_MUM,
    Signing,
    Stamp,
    catalog,
    component_manifest,
    indirect,
    package_files,
    sign_cabinet,
    signed_message,
    signed_package,
)
from scripts.fixtures.stored_cabinet import stored_cabinet
from scripts.fixtures.test_authority import TIME_STAMPING, intermediate, issue, lasting_signer, stranger_root
from tests.data_files import data_file
from tests.package.signing import NOW, authority_roots
from vhdtool.bytesource import BytesSource
from vhdtool.errors import RefusedError, VhdtoolError
from vhdtool.package import catalog_check, package_limits
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.catalog import read_catalog_message
from vhdtool.package.verification import PackageVerification, verify_package

GENUINE = "cab/marcinbojko__hvintegrationservices/Windows6.{}-HyperVIntegrationServices-x64.cab"
MANIFEST, FIRST, SECOND = f"{COMPONENT}.manifest", f"{COMPONENT}\\first.sys", f"{COMPONENT}\\second.dll"
GOOD = ("valid", "valid", "valid", "valid")


def verified(data: bytes, *, ours: bool = True, now: datetime | None = NOW) -> PackageVerification:
    cabinet = Cabinet.open(BytesSource(data), path="a.cab")
    return verify_package(cabinet, trust_roots=authority_roots() if ours else (), now=now)


def states(found: PackageVerification) -> tuple[str, ...]:
    return tuple(layer.state for layer in found.layers)


def faults(found: PackageVerification) -> set[tuple[str, str, str | None]]:
    return {(layer.name, problem.code, problem.path) for layer in found.layers for problem in layer.problems}


def resigned(changes: Mapping[str, bytes | None], how: Signing | None = None) -> bytes:
    """The package with other files, signed anew: what somebody with a good certificate could hand out."""
    files = {**package_files(), **changes}
    return signed_package({name: data for name, data in files.items() if data is not None}, how)


# --- genuine packages


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected", "manifests", "files"),
    # the older systems know SHA-1 alone: their catalog is signed with it, in 2016. The counts are cabextract's.
    [("2", GOOD, 20, 52), ("x", ("valid", "valid", "weak", "valid"), 16, 47)],
)
def test_genuine_packages_by_todays_clock(name: str, expected: tuple[str, ...], manifests: int, files: int):
    found = verified(data_file(GENUINE.format(name)).read_bytes(), ours=False, now=None)
    assert states(found) == expected, faults(found)
    assert found.trusted
    assert faults(found) == set()
    assert not any(layer.notes for layer in found.layers)
    assert [found.layer("catalog").checked, found.layer("payload").checked] == [manifests, files]
    assert len(set(Cabinet.open(BytesSource(data_file(GENUINE.format(name)).read_bytes()), path="a").members)) == (
        manifests + files + 1
    )
    primary, nested = found.layer("signature").signatures
    assert [primary.digest, primary.state, primary.countersignature] == ["sha1", "weak", "pkcs9"]
    assert [nested.digest, nested.state, nested.countersignature] == ["sha256", "valid", "rfc3161"]
    assert nested.root == "Microsoft Root Certificate Authority 2010"
    assert nested.root_is_pinned
    assert nested.signed_at is not None
    assert nested.signed_at.date().isoformat() == "2016-06-25"


@pytest.mark.data
def test_a_changed_byte_anywhere_in_a_genuine_package_is_found():
    data = data_file(GENUINE.format("x")).read_bytes()
    end = struct.unpack_from("<I", data, 44)[0]
    for offset in (4, 8, 34, 40, 52, 57, 60, 500, 3000, end // 3, end // 2, end - 1, end + 3000, end + 9000):
        bad = bytearray(data)
        bad[offset] ^= 0x10
        try:
            found = verified(bytes(bad), ours=False)
        except VhdtoolError:
            continue  # found before anything was verified
        assert not found.trusted, offset
        assert found.layer("digest").state == "invalid" or found.layer("signature").state == "invalid", offset
        if 3000 <= offset < end:
            assert found.layer("payload").state == "invalid", offset


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # signed by hand with a certificate that only says Microsoft Windows
        (
            "cab/he3als__online-sxs/f5f9353-Z-he3als-NoTelemetry-Package31bf3856ad364e35amd641.0.0.0.cab",
            ("valid", "invalid", "invalid", "valid"),
        ),
        ("cab/abbodi1406__WHD/Windows8.1-KB2938772-x64.cab", ("missing", "missing", "valid", "valid")),
        ("cab/dotnet__runtime-assets/Windows6.1-KB3004361-x64.msu", ("valid", "valid", "missing", "missing")),
        ("cab/stdin82__htfx/Windows6.1-KB2646060-v3-x64.msu", ("weak", "weak", "missing", "missing")),
        ("cab/stdin82__htfx/Windows6.1-KB943790-x64.msu", ("weak", "weak", "missing", "missing")),
        ("cab/stdin82__htfx/Windows8.1-KB3024680-v2-x64.msu", ("valid", "valid", "missing", "missing")),
        ("cab/kyz__libmspack/simple.cab", ("missing", "missing", "missing", "missing")),
    ],
)
def test_other_cabinets(name: str, expected: tuple[str, ...]):
    found = verified(data_file(name).read_bytes(), ours=False)
    assert states(found) == expected, faults(found)
    assert not found.trusted


# --- packages of the test authority


def test_a_good_package():
    found = verified(signed_package())
    assert states(found) == GOOD, faults(found)
    assert found.trusted
    assert found.layer("catalog").checked == 2
    assert found.layer("payload").checked == 2
    assert found.path == "a.cab"


def test_the_test_authority_is_nobody_by_default():
    found = verified(signed_package(), ours=False)
    assert states(found) == ("valid", "invalid", "invalid", "valid")
    assert ("signature", "untrusted-root", "a.cab") in faults(found)
    assert ("catalog", "untrusted-root", "update.cat") in faults(found)


def test_not_signed():
    found = verified(stored_cabinet(package_files()))
    assert states(found) == ("missing", "missing", "valid", "valid")
    assert not found.trusted


def test_signature_cut_off():
    data = signed_package()
    found = verified(data[:-100])
    assert states(found) == ("invalid", "invalid", "valid", "valid")
    assert {code for layer, code, _ in faults(found)} == {"signature-damaged"}


def test_a_changed_byte_of_the_payload_without_new_signature():
    data = bytearray(signed_package())
    at = bytes(data).index(b"the second file") + 5000
    data[at] ^= 1
    found = verified(bytes(data))
    assert states(found) == ("invalid", "valid", "valid", "invalid")
    assert ("digest", "digest-mismatch", "a.cab") in faults(found)
    assert SECOND in {path for layer, _, path in faults(found) if layer == "payload"}


def test_a_changed_byte_under_a_checksum_that_was_corrected():
    files = package_files()
    files[SECOND] = files[SECOND].replace(b"second", b"sEcond", 1)
    changed = bytearray(stored_cabinet(files, signature_reserve=True))
    data = signed_package()
    changed[44:52] = data[44:52]
    changed += data[len(changed) :]
    found = verified(bytes(changed))
    assert states(found) == ("invalid", "valid", "valid", "invalid")
    assert faults(found) == {("digest", "digest-mismatch", "a.cab"), ("payload", "payload-mismatch", SECOND)}


def test_a_changed_payload_in_a_package_signed_anew():
    found = verified(resigned({FIRST: b"another driver"}))
    assert states(found) == ("valid", "valid", "valid", "invalid")
    assert faults(found) == {("payload", "payload-mismatch", FIRST)}


def test_a_changed_manifest_in_a_package_signed_anew():
    manifest = component_manifest("vhdtool-test", {"first.sys": b"another driver", "second.dll": b""})
    found = verified(resigned({MANIFEST: manifest, FIRST: b"another driver", SECOND: b""}))
    assert states(found) == ("valid", "valid", "invalid", "valid")
    assert faults(found) == {("catalog", "not-in-catalog", MANIFEST)}


def test_a_changed_package_manifest():
    found = verified(resigned({"update.mum": UPDATE_MUM.replace(b"possible", b"required")}))
    assert faults(found) == {("catalog", "not-in-catalog", "update.mum")}


def test_a_catalog_that_does_not_list_the_manifest():
    found = verified(resigned({"update.cat": catalog([UPDATE_MUM])}))
    assert faults(found) == {("catalog", "not-in-catalog", MANIFEST)}


def test_the_catalog_is_missing():
    found = verified(resigned({"update.cat": None}))
    assert states(found) == ("valid", "valid", "missing", "valid")
    assert not found.trusted


@pytest.mark.parametrize("content", [b"", b"no catalog", b"\x30\x82\x10\x00" + bytes(100)])
def test_the_catalog_is_none(content: bytes):
    found = verified(resigned({"update.cat": content}))
    assert found.layer("catalog").state == "invalid"
    assert ("catalog", "der-damaged", "update.cat") in faults(found)


def test_a_changed_byte_of_the_catalog_is_found():
    files = package_files()
    for offset in range(60, len(files["update.cat"]), 487):
        bad = bytearray(files["update.cat"])
        bad[offset] ^= 0x20
        found = verified(resigned({"update.cat": bytes(bad)}))
        assert states(found) == ("valid", "valid", "invalid", "valid"), offset


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (Signing(by=issue("Stranger", 2, stranger_root(), serial=60, purposes=(TIME_STAMPING,))), "untrusted-root"),
        (Signing(by=issue("No Signer", 2, intermediate(), serial=61, purposes=(TIME_STAMPING,))), "wrong-usage"),
        (Signing(stamps=()), "expired"),
        (
            Signing(
                by=lasting_signer(),
                digest="sha1",
                stamps=(Stamp(kind="pkcs9", digest="sha1", when=datetime(2018, 1, 1, tzinfo=UTC)),),
            ),
            "sha1-too-late",
        ),
    ],
)
def test_signatures_that_do_not_hold(how: Signing, code: str):
    cabinet = verified(signed_package(how=how))
    assert cabinet.layer("signature").state == "invalid"
    assert ("signature", code, "a.cab") in faults(cabinet)
    assert cabinet.layer("catalog").state == "valid"
    listed = verified(signed_package(package_files(how)))
    assert listed.layer("catalog").state == "invalid"
    assert ("catalog", code, "update.cat") in faults(listed)
    assert listed.layer("signature").state == "valid"


def test_sha1_of_its_time_is_weak_and_trusted():
    old = Signing(digest="sha1", stamps=(Stamp(kind="pkcs9", digest="sha1"),))
    found = verified(signed_package(package_files(old, algorithms=("sha1",)), old))
    assert states(found) == ("weak", "weak", "weak", "valid"), faults(found)
    assert found.trusted


def test_a_cabinet_whose_md5_was_signed():
    found = verified(signed_package(how=Signing(digest="md5")))
    assert states(found)[:2] == ("invalid", "invalid")
    assert {("digest", "md5-refused", "a.cab"), ("signature", "md5-refused", "a.cab")} <= faults(found)


def test_a_nested_signature_of_other_bytes():
    old = Signing(digest="sha1", stamps=(Stamp(kind="pkcs9", digest="sha1"),))
    good = sign_cabinet(stored_cabinet(package_files(), signature_reserve=True), Signing(nested=old))
    assert states(verified(good)) == GOOD
    end = struct.unpack_from("<I", good, 44)[0]
    digest = hashlib.sha1(good[:4] + good[8:34] + good[56:60] + good[60:end], usedforsecurity=False).digest()
    bad = bytearray(good)
    bad[good.index(digest, end)] ^= 1
    found = verified(bytes(bad))
    assert ("digest", "digest-mismatch", "a.cab") in faults(found)
    assert ("signature", "signature-mismatch", "a.cab") in faults(found)


def test_a_file_that_the_manifest_lists_is_missing():
    found = verified(resigned({SECOND: None}))
    assert faults(found) == {("payload", "file-missing", SECOND)}


def test_a_file_that_no_manifest_lists_is_noted():
    found = verified(resigned({f"{COMPONENT}\\more.dll": b"more", "readme.txt": b"text"}))
    assert states(found) == GOOD
    assert {(note.code, note.path) for note in found.layer("payload").notes} == {
        ("file-unlisted", f"{COMPONENT}\\more.dll"),
        ("file-unlisted", "readme.txt"),
    }


def test_a_file_of_which_the_manifest_states_no_digest():
    """It may be anything then, whoever signed the cabinet: the layer says so, and does not hold."""
    manifest = package_files()[MANIFEST]
    start = manifest.index(b"<asmv2:hash", manifest.index(b'name="second.dll"'))
    end = manifest.index(b"</asmv2:hash>", start) + len(b"</asmv2:hash>")
    bare = manifest[:start] + manifest[end:]
    found = verified(resigned({MANIFEST: bare, "update.cat": catalog([UPDATE_MUM, bare])}))
    assert states(found) == ("valid", "valid", "valid", "unknown")
    assert [(note.code, note.path) for note in found.layer("payload").notes] == [("digest-unknown", SECOND)]
    assert not found.trusted


def test_names_are_compared_as_windows_does():
    files = package_files()
    spelled = {name.replace("first.sys", "FIRST.SYS").replace("\\", "/"): data for name, data in files.items()}
    assert states(verified(signed_package(spelled))) == GOOD


def test_a_name_that_stands_twice_is_a_fault():
    found = verified(resigned({FIRST.upper(): b"another"}))
    assert ("payload", "name-twice", FIRST.upper()) in faults(found)
    assert not found.trusted


@pytest.mark.parametrize("content", [b"DCM\x01PA30" + bytes(50), b"DCS\x01" + bytes(50)])
def test_a_compressed_manifest_leaves_the_payload_unknown(content: bytes):
    found = verified(resigned({MANIFEST: content, "update.cat": catalog([UPDATE_MUM, content])}))
    assert states(found) == ("valid", "valid", "valid", "unknown")
    assert not found.trusted


def test_a_package_of_deltas_leaves_the_payload_unknown():
    found = verified(resigned({"_manifest_.cix.xml": b"<Container/>", SECOND: None}))
    assert found.layer("payload").state == "unknown"
    assert found.layer("payload").notes[0].code == "package-delta"


def test_a_manifest_that_is_no_xml():
    broken = b"<assembly><file"
    found = verified(resigned({MANIFEST: broken, "update.cat": catalog([UPDATE_MUM, broken])}))
    assert found.layer("payload").state == "invalid"
    assert {path for layer, _, path in faults(found) if layer == "payload"} == {MANIFEST}


def test_a_manifest_with_sha1_digests_is_weak():
    payload = {"first.sys": b"one", "second.dll": b"two"}
    manifest = component_manifest("vhdtool-test", payload, algorithm="sha1")
    changes = {MANIFEST: manifest, FIRST: b"one", SECOND: b"two", "update.cat": catalog([UPDATE_MUM, manifest])}
    found = verified(resigned(changes))
    assert states(found) == ("valid", "valid", "valid", "weak")
    assert found.trusted


def test_the_clock_decides_only_without_a_countersigned_time():
    data = signed_package(package_files(Signing(stamps=())), Signing(stamps=()))
    assert verified(data, now=datetime(2016, 6, 1, tzinfo=UTC)).trusted
    assert not verified(data).trusted
    assert verified(signed_package(), now=datetime(2090, 1, 1, tzinfo=UTC)).trusted


# --- what a signature vouches for

LATE_SHA1 = Signing(
    by=lasting_signer(),
    digest="sha1",
    stamps=(Stamp(kind="pkcs9", digest="sha1", when=datetime(2018, 1, 1, tzinfo=UTC)),),
)


def list_of(files: list[bytes]) -> bytes:
    return read_catalog_message(catalog(files)).content_der


def test_a_nested_signature_of_a_catalog_vouches_for_its_own_list_alone():
    """A list that SHA-1 of 2018 signs is not believed for the good signature that hangs at it."""
    files = package_files()
    manifests = [files["update.mum"], files[MANIFEST]]
    other = signed_message(TRUST_LIST, list_of([b"something else"]), Signing())
    same = signed_message(TRUST_LIST, list_of(manifests), Signing())
    late = signed_message(TRUST_LIST, list_of(manifests), LATE_SHA1, other)
    assert ("catalog", "not-in-catalog", "update.mum") in faults(verified(resigned({"update.cat": late})))
    late = signed_message(TRUST_LIST, list_of(manifests), LATE_SHA1, same)
    assert states(verified(resigned({"update.cat": late}))) == GOOD
    late = signed_message(TRUST_LIST, list_of([b"something else"]), LATE_SHA1, same)
    assert states(verified(resigned({"update.cat": late}))) == GOOD


def test_what_a_catalog_lists_is_not_read_before_its_signature_holds(monkeypatch: pytest.MonkeyPatch):
    """A list of 50,000 files costs seconds; a stranger's is not worth them."""
    read: list[str | None] = []
    real = catalog_check.listed_files
    monkeypatch.setattr(
        catalog_check, "listed_files", lambda message, *, path: read.append(path) or real(message, path=path)
    )
    verified(signed_package(), ours=False)
    assert read == []
    verified(signed_package())
    assert read == ["update.cat"]


def test_a_catalog_with_a_signature_of_something_else_nested_in_it():
    files = package_files()
    nested = signed_message(SPC_INDIRECT_DATA, indirect("sha256", bytes(32)), Signing())
    mixed = signed_message(TRUST_LIST, list_of([files["update.mum"], files[MANIFEST]]), Signing(), nested)
    assert faults(verified(resigned({"update.cat": mixed}))) >= {("catalog", "catalog-damaged", "update.cat")}


# --- sets


def signed_set(*, signed: tuple[int, ...] = (0, 1), files: Mapping[str, bytes] | None = None) -> list[bytes]:
    """The package in two files, of which these are signed."""
    content = [CabFile(name, data) for name, data in (files or package_files()).items()]
    parts = build_set(CabFolder(content, STORED), 60_000, ("one.cab", "two.cab"), reserves=SIGNATURE_ROOM)
    return [sign_cabinet(part) if number in signed else part for number, part in enumerate(parts)]


def verified_set(parts: list[bytes]) -> PackageVerification:
    sources = [(name, BytesSource(data)) for name, data in zip(("two.cab",), parts[1:], strict=True)]
    cabinet = Cabinet.open(BytesSource(parts[0]), path="one.cab", next_parts=sources)
    return verify_package(cabinet, trust_roots=authority_roots(), now=NOW)


def test_a_set_whose_files_are_all_signed():
    found = verified_set(signed_set())
    assert states(found) == GOOD, faults(found)
    assert [found.layer("digest").checked, found.layer("signature").checked] == [2, 2]


def test_a_set_is_signed_as_far_as_each_of_its_files_is():
    assert states(verified_set(signed_set(signed=(1,)))) == ("missing", "missing", "valid", "valid")
    found = verified_set(signed_set(signed=(0,)))
    assert states(found) == ("missing", "missing", "valid", "valid")
    assert "two.cab" in found.layer("signature").message
    assert not found.trusted
    parts = signed_set()
    end = struct.unpack_from("<I", parts[1], 44)[0]
    changed = bytearray(parts[1])
    changed[end - 100] ^= 1
    found = verified_set([parts[0], bytes(changed)])
    assert ("digest", "digest-mismatch", "two.cab") in faults(found)
    assert ("payload", "file-unreadable", SECOND) in faults(found)
    renumbered = bytearray(parts[1])
    renumbered[4] = 1  # reserved1, which no digest covers
    assert ("digest", "header-changed", "two.cab") in faults(verified_set([parts[0], bytes(renumbered)]))


# --- names, patches, limits


@pytest.mark.parametrize("name", ["..\\..\\evil.dll", "C:\\evil.dll", "\\evil.dll", "update.mum:stream"])
def test_a_name_that_leads_out_is_a_fault_whoever_signed_it(name: str):
    found = verified(resigned({name: b"evil"}))
    assert ("payload", "cabinet-unsafe-name", name) in faults(found)
    assert not found.trusted


@pytest.mark.parametrize(
    "name", ["update.mum.", "update.mum ", f"{COMPONENT}.\\first.sys", f"{COMPONENT}\\first.sys. ."]
)
def test_a_name_that_windows_takes_for_another_is_a_fault(name: str):
    found = verified(resigned({name: b"another"}))
    assert ("payload", "name-twice", name) in faults(found)
    assert not found.trusted


@pytest.mark.parametrize("folder", ["f", "r", "n"])
def test_patches_in_folders_of_their_own_leave_the_payload_unknown(folder: str):
    patch = bytes(4) + b"PA30" + bytes(100)
    found = verified(resigned({SECOND: None, f"{COMPONENT}\\{folder}\\second.dll": patch}))
    assert states(found) == ("valid", "valid", "valid", "unknown")
    assert [(note.code, note.path) for note in found.layer("payload").notes] == [
        ("package-delta", f"{COMPONENT}\\{folder}\\second.dll")
    ]


@pytest.mark.parametrize("start", [b"PA30", b"\1\2\3\4PA31"])
def test_a_patch_in_the_place_of_a_file_leaves_the_payload_unknown(start: bytes):
    found = verified(resigned({SECOND: start + bytes(100)}))
    assert found.layer("payload").state == "unknown"
    assert [(note.code, note.path) for note in found.layer("payload").notes] == [("package-delta", SECOND)]
    assert not found.trusted


@pytest.mark.parametrize(("limit", "value"), [("MAX_DESCRIBED", 500), ("MAX_MARKS", 5), ("MAX_NAMED", 1)])
def test_a_package_that_says_too_much_is_refused(limit: str, value: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(package_limits, limit, value)
    with pytest.raises(RefusedError) as caught:
        verified(signed_package())
    assert (caught.value.code, caught.value.path) == ("package-too-large", "a.cab")
