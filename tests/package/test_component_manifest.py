"""Manifests of components."""

from __future__ import annotations

import hashlib

import pytest

from tests.package.package_texts import identity, manifest, service
from vhdtool.errors import UnsupportedError, VhdtoolError
from vhdtool.package.component_manifest import ManifestFile, ManifestService, ServiceTrigger, read_component_manifest

TRIGGER = (
    '<serviceTrigger action="start" type="DeviceInterfaceArrival" subtype="{57164F39-9115-4E78-AB55-382F3BD5422D}"/>'
)
HASH = '<hash><DigestMethod Algorithm="{}"/><DigestValue>{}</DigestValue></hash>'
SHA1, SHA256 = "http://www.w3.org/2000/09/xmldsig#sha1", "http://www.w3.org/2000/09/xmldsig#sha256"


def with_hash(inside: str) -> bytes:
    return manifest("a", {}, f'<file name="f.dll">{inside}</file>')


def test_files_and_dependencies() -> None:
    dependency = f"<dependency><dependentAssembly>{identity('Needed')}</dependentAssembly></dependency>"
    found = read_component_manifest(manifest("Comp", {"a.dll": b"1", "b.inf": b"2"}, dependency), path="c.manifest")
    assert found.identity.name == "Comp"
    assert found.files == (
        ManifestFile("a.dll", "a.dll", "$(runtime.system32)\\", "sha256", hashlib.sha256(b"1").digest(), False),
        ManifestFile("b.inf", "b.inf", "$(runtime.system32)\\", "sha256", hashlib.sha256(b"2").digest(), True),
    )
    assert [one.name for one in found.dependencies] == ["Needed"]
    assert found.services == ()


def test_services() -> None:
    found = read_component_manifest(manifest("Comp", {}, service("vmicx", "demand", TRIGGER)), path="c")
    trigger = ServiceTrigger("start", "DeviceInterfaceArrival", "57164f39-9115-4e78-ab55-382f3bd5422d")
    assert found.services == (
        ManifestService(
            "vmicx", "The vmicx", 3, False, "win32ShareProcess", "svchost.exe -k vmicx", "LocalSystem", (trigger,)
        ),
    )
    words = '<serviceTrigger action="stop" type="NetworkEndpoint" subtype="some words"/>'
    assert read_component_manifest(manifest("C", {}, service("a", "auto", words)), path="c").services[0].triggers == (
        ServiceTrigger("stop", "NetworkEndpoint", "some words"),
    )


@pytest.mark.parametrize(
    ("start", "value", "delayed"),
    [
        ("boot", 0, False),
        ("system", 1, False),
        ("auto", 2, False),
        ("delayedAuto", 2, True),
        ("disabled", 4, False),
        ("sometimes", None, False),
    ],
)
def test_start_types(start: str, value: int | None, delayed: bool) -> None:
    [one] = read_component_manifest(manifest("C", {}, service("a", start)), path="c").services
    assert (one.start, one.delayed) == (value, delayed)


def test_other_memberships_are_no_services() -> None:
    text = service("a").replace("Categories.Services", "Categories.Other")
    assert read_component_manifest(manifest("C", {}, text), path="c").services == ()


def test_names_of_files() -> None:
    [file] = read_component_manifest(manifest("C", {}, '<file name="guest.dll" sourceName="cab.dll"/>'), path="c").files
    assert (file.name, file.stored_name, file.digest) == ("guest.dll", "cab.dll", None)
    [file] = read_component_manifest(manifest("C", {}, '<file name="guest.dll"/>'), path="c").files
    assert file.stored_name == "guest.dll"


@pytest.mark.parametrize(
    ("inside", "algorithm"),
    [
        (HASH.format(SHA1, "2jmj7l5rSw0yVb/vlWAYkK/YBwk="), "sha1"),
        (HASH.format(SHA256, "\n47DEQpj8HBSa+/TImW+5JCeu QeRkm5NMpJWZG3hSuFU=\n"), "sha256"),
        (HASH.format("urn:other", "AAAA"), None),
        ("<hash><DigestValue>AAAA</DigestValue></hash>", None),
        (f'<hash><Transforms><Transform Algorithm="urn:x"/></Transforms>{HASH[6:].format(SHA1, "AAAA")}', None),
    ],
)
def test_digests(inside: str, algorithm: str | None) -> None:
    [file] = read_component_manifest(with_hash(inside), path="c").files
    assert file.digest_algorithm == algorithm
    assert (file.digest is None) == (algorithm is None)


@pytest.mark.parametrize("mark", [b"DCM\x01", b"DCN\x01", b"DCD\x01", b"DCS\x01"])
def test_compressed_manifests_are_named(mark: bytes) -> None:
    with pytest.raises(UnsupportedError) as caught:
        read_component_manifest(mark + b"PA30....", path="c.manifest")
    assert (caught.value.code, caught.value.path) == ("manifest-compressed", "c.manifest")
    assert mark[:3].decode() in caught.value.message


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<assembly/>", "not-a-manifest"),
        (b"<other/>", "not-a-manifest"),
        (b"<assembly><assemblyIdentity/></assembly>", "identity-damaged"),
        (manifest("a", {}, "<file/>"), "manifest-damaged"),
        (with_hash(HASH.format(SHA256, "!!!!")), "manifest-damaged"),
        (with_hash(HASH.format(SHA256, "AAAA")), "manifest-damaged"),
        (with_hash(HASH.format(SHA1, "ÄÄÄÄ")), "manifest-damaged"),
        (b"", "xml-damaged"),
    ],
)
def test_what_is_no_manifest(data: bytes, code: str) -> None:
    with pytest.raises(VhdtoolError) as caught:
        read_component_manifest(data, path="c.manifest")
    assert (caught.value.code, caught.value.path) == (code, "c.manifest")
