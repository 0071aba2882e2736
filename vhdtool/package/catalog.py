"""Catalogs (``.cat``): a signed list of the files of a package, by their digests.

A catalog is a SignedData whose content is a certificate trust list (1.3.6.1.4.1.311.10.1). Each of its members is one
file; the digest stands in an attribute of the member (SpcIndirectDataContent), with its algorithm. What identifies a
member, the tag, is only a name for it. A file of no format known to the maker of the catalog (.mum, .manifest, .inf)
is listed by the digest of all its bytes; catalogs of Windows 8 and later list with SHA-256, older ones with SHA-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vhdtool.errors import DamagedError
from vhdtool.package.authenticode import SPC_INDIRECT_DATA, IndirectDigest, read_indirect_data
from vhdtool.package.der import elements, reading
from vhdtool.package.pkcs7 import SignedMessage, read_signed_message
from vhdtool.package.signature import named_messages

TRUST_LIST = "1.3.6.1.4.1.311.10.1"
CATALOG_USAGE = "1.3.6.1.4.1.311.12.1.1"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The files that a catalog lists, by their digests; to be believed as far as what signed it is."""

    members: frozenset[IndirectDigest] = field(repr=False)

    def lists(self, digests: Mapping[str, bytes]) -> str | None:
        """Return the strongest algorithm by which a file with these digests is listed; None where it is not.

        ``digests`` are of the whole file, by algorithm: sha1, sha256.
        """
        for algorithm in ("sha512", "sha384", "sha256", "sha1"):
            digest = digests.get(algorithm)
            if digest is not None and IndirectDigest(algorithm, digest) in self.members:
                return algorithm
        return None


def read_catalog_message(data: bytes, *, path: str | None = None) -> SignedMessage:
    """Read the signed message that a catalog is; what it lists is not looked at.

    Raises:
        DamagedError: ``der-damaged``, ``signature-damaged``: it is no signed message; ``catalog-damaged``: its
            content, or that of a signature nested in it, is no list.
    """
    message = read_signed_message(data, path=path)
    for _, one in named_messages(message):
        if one.content_type != TRUST_LIST:
            raise _damaged("the file is no catalog", path, TRUST_LIST, one.content_type)
    return message


def listed_files(message: SignedMessage, *, path: str | None = None) -> Catalog:
    """Read what one message of a catalog lists, the catalog's own or one nested in it.

    Each signature vouches for its own list. To be asked after the signature was checked: a list costs more to read.

    Raises:
        DamagedError: ``der-damaged``; ``catalog-damaged``: it is no list of files.
    """
    from vhdtool.package.authenticode_asn1 import TrustList  # noqa: PLC0415  # slow to import

    with reading("the catalog", path):
        parsed = TrustList.load(message.content_der, strict=True)
        usages = [one.dotted for one in parsed["usages"]]
        if usages != [CATALOG_USAGE]:
            raise _damaged("the list is of something other than files", path, CATALOG_USAGE, ", ".join(usages))
        # one after another: asn1crypto would hold them all, at a hundred times the bytes of a small one
        listed = elements(parsed["members"].contents or b"")
        return Catalog(frozenset(digest for one in listed for digest in _digests(one)))


def _digests(der: bytes) -> list[IndirectDigest]:
    from vhdtool.package.authenticode_asn1 import Member  # noqa: PLC0415  # slow to import

    member = Member.load(der, strict=True)
    return [
        read_indirect_data(value.dump())
        for attribute in member["attributes"] or ()
        if attribute["type"].dotted == SPC_INDIRECT_DATA
        for value in attribute["values"]
    ]


def _damaged(message: str, path: str | None, expected: object, found: object) -> DamagedError:
    return DamagedError(
        "catalog-damaged",
        message,
        path=path,
        expected=expected,
        found=found,
        hint="The package is damaged, or is none of Windows: get it again from Microsoft.",
    )
