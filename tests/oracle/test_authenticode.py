"""Signatures of cabinets and catalogs, judged by osslsigncode and OpenSSL beside our own judgement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from asn1crypto import cms, core
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from scripts.fixtures.signed_package import Signing, Stamp, catalog, package_files, signed_package
from scripts.fixtures.stored_cabinet import stored_cabinet
from scripts.fixtures.test_authority import intermediate, key_texts, lasting_signer, root
from tests.data_files import data_file
from tests.package.signing import NOW, authority_roots
from tests.tools import require_tool, run
from vhdtool.bytesource import BytesSource
from vhdtool.package.authenticode import cabinet_digests, find_signature
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.verification import verify_package

pytestmark = pytest.mark.oracle

SIGNED = [
    "marcinbojko__hvintegrationservices/Windows6.2-HyperVIntegrationServices-x64.cab",
    "marcinbojko__hvintegrationservices/Windows6.x-HyperVIntegrationServices-x64.cab",
    "dotnet__runtime-assets/Windows6.1-KB3004361-x64.msu",
    "stdin82__htfx/Windows6.1-KB2646060-v3-x64.msu",
    "stdin82__htfx/Windows6.1-KB943790-x64.msu",
    "stdin82__htfx/Windows8.1-KB3024680-v2-x64.msu",
    "he3als__online-sxs/f5f9353-Z-he3als-NoTelemetry-Package31bf3856ad364e35amd641.0.0.0.cab",
]
SHA1 = Signing(digest="sha1", stamps=(Stamp(kind="pkcs9", digest="sha1"),))
WHEN_SIGNED = "1466886123"  # 2016-06-25, for openssl -attime


def pem(folder: Path, name: str, *certificates: bytes) -> str:
    path = folder / name
    path.write_bytes(b"".join(x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in certificates))
    return str(path)


@pytest.mark.data
@pytest.mark.parametrize("name", SIGNED)
def test_osslsigncode_computes_the_same_digest(name: str):
    path = data_file(f"cab/{name}")
    said = run(require_tool("osslsigncode"), "verify", str(path), check=False).stdout.decode()
    algorithm = re.search(r"Message digest algorithm  : (\w+)", said)
    digest = re.search(r"Calculated message digest : (\w+)", said)
    assert algorithm
    assert digest
    source = BytesSource(path.read_bytes())
    place = find_signature(source)
    assert place is not None
    name = algorithm[1].lower()
    assert cabinet_digests(source, place.offset, [name])[name].hex().upper() == digest[1]


@pytest.mark.parametrize("how", [Signing(), SHA1, Signing(stamps=(Stamp(kind="pkcs9"),)), Signing(nested=Signing())])
def test_osslsigncode_accepts_the_cabinets_of_the_tests(tmp_path: Path, how: Signing):
    """So that what our own verification accepts in the tests is what others accept."""
    cab = tmp_path / "a.cab"
    cab.write_bytes(signed_package(how=how))
    trusted = pem(tmp_path, "root.pem", root().certificate)
    said = run(require_tool("osslsigncode"), "verify", "-CAfile", trusted, "-TSA-CAfile", trusted, str(cab)).stdout
    assert b"Succeeded" in said
    bad = bytearray(cab.read_bytes())
    bad[70] ^= 1
    cab.write_bytes(bad)
    changed = run(
        require_tool("osslsigncode"), "verify", "-CAfile", trusted, "-TSA-CAfile", trusted, str(cab), check=False
    )
    assert changed.returncode != 0


@pytest.mark.parametrize("digest", ["sha256", "sha384"])
def test_our_verification_accepts_what_osslsigncode_signed(tmp_path: Path, digest: str):
    """It writes the reserve and the signature by itself; the certificate is valid today and needs no time stamp."""
    plain, signed, key = tmp_path / "plain.cab", tmp_path / "signed.cab", tmp_path / "key.pem"
    plain.write_bytes(stored_cabinet(package_files()))
    key.write_bytes(key_texts()[2])
    certificates = pem(tmp_path, "chain.pem", lasting_signer().certificate, intermediate().certificate)
    run(
        require_tool("osslsigncode"), "sign", "-h", digest, "-certs", certificates, "-key", str(key),
        "-in", str(plain), "-out", str(signed),
    )  # fmt: skip
    data = signed.read_bytes()
    roots = authority_roots()
    found = verify_package(Cabinet.open(BytesSource(data), path="a.cab"), trust_roots=roots, now=NOW)
    assert found.trusted, found.layers
    for offset in (8, 57, 100, len(data) // 2):
        bad = bytearray(data)
        bad[offset] ^= 1
        again = verify_package(
            Cabinet.open(BytesSource(bytes(bad)), path="a.cab"), trust_roots=authority_roots(), now=NOW
        )
        assert not again.trusted, offset


def detached(catalog_der: bytes, folder: Path) -> tuple[str, str]:
    """A catalog as ``openssl cms`` takes it: its content is PKCS#7's any DER value, where CMS has an octet string.

    The digest is over the same octets either way, so the signature stays as it is and the content goes beside it.
    """
    outer = cms.ContentInfo.load(catalog_der)
    inner = outer["content"]["encap_content_info"]
    content = folder / "content.bin"
    content.write_bytes(inner["content"].contents)
    bare = cms.SignedData()
    for field in ("version", "digest_algorithms", "certificates", "signer_infos"):
        bare[field] = outer["content"][field]
    bare["encap_content_info"] = cms.ContentInfo.load(
        core.SequenceOf([inner["content_type"]], spec=cms.ContentType).dump()
    )
    message = folder / "detached.p7"
    message.write_bytes(cms.ContentInfo({"content_type": "signed_data", "content": bare}).dump())
    return str(message), str(content)


@pytest.mark.parametrize("how", [Signing(), SHA1])
def test_openssl_accepts_the_catalogs_of_the_tests(tmp_path: Path, how: Signing):
    openssl = require_tool("openssl")
    message, content = detached(catalog([b"one file", b"another"], how), tmp_path)
    trusted = pem(tmp_path, "root.pem", root().certificate)
    command = [openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", message, "-content", content]
    command += ["-CAfile", trusted, "-purpose", "any", "-attime", WHEN_SIGNED, "-out", str(tmp_path / "out")]
    run(*command)
    data = bytearray(Path(content).read_bytes())
    data[-1] ^= 1
    Path(content).write_bytes(data)
    assert run(*command, check=False).returncode != 0


@pytest.mark.data
@pytest.mark.parametrize("name", ["Velocidex__go-pe/ntexe.cat", "fox-it__dissect.target/catroot_file_hint.cat"])
def test_openssl_reads_genuine_catalogs_that_way_too(tmp_path: Path, name: str):
    message, content = detached(data_file(f"cat/{name}").read_bytes(), tmp_path)
    run(
        require_tool("openssl"), "cms", "-verify", "-binary", "-inform", "DER", "-in", message, "-content", content,
        "-noverify", "-out", str(tmp_path / "out"),
    )  # fmt: skip
