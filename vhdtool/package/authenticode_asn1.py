"""The structures of Authenticode and of catalogs, for asn1crypto. Imported only when one is read.

Sources: Microsoft, "Windows Authenticode Portable Executable Signature Format" (SpcIndirectDataContent); MS-CAESO and
the Windows SDK's wintrust.h and wincrypt.h (CTL: certificate trust lists, whose members are files in a catalog).
"""

from __future__ import annotations

from asn1crypto import algos, core


class SpcAttribute(core.Sequence):  # type: ignore[misc]
    """SpcAttributeTypeAndOptionalValue: what kind of file, and data on it that nobody here asks for."""

    _fields = [("type", core.ObjectIdentifier), ("value", core.Any, {"optional": True})]  # noqa: RUF012


class SpcIndirectData(core.Sequence):  # type: ignore[misc]
    """SpcIndirectDataContent."""

    _fields = [("data", SpcAttribute), ("message_digest", algos.DigestInfo)]  # noqa: RUF012


class MemberAttribute(core.Sequence):  # type: ignore[misc]
    """One attribute of a catalog's member."""

    _fields = [("type", core.ObjectIdentifier), ("values", core.SetOf, {"spec": core.Any})]  # noqa: RUF012


class MemberAttributes(core.SetOf):  # type: ignore[misc]
    """All attributes of a member."""

    _child_spec = MemberAttribute


class Member(core.Sequence):  # type: ignore[misc]
    """TrustedSubject: one file of a catalog."""

    _fields = [  # noqa: RUF012
        ("identifier", core.OctetString),
        ("attributes", MemberAttributes, {"optional": True}),
    ]


class Members(core.SequenceOf):  # type: ignore[misc]
    """TrustedSubjects."""

    _child_spec = Member


class Usages(core.SequenceOf):  # type: ignore[misc]
    """SubjectUsage: what the list is for."""

    _child_spec = core.ObjectIdentifier


class UpdateTime(core.Choice):  # type: ignore[misc]
    """A time in either of its forms."""

    _alternatives = [("utc", core.UTCTime), ("general", core.GeneralizedTime)]  # noqa: RUF012


class TrustList(core.Sequence):  # type: ignore[misc]
    """CertificateTrustList."""

    _fields = [  # noqa: RUF012
        ("version", core.Integer, {"default": 0}),
        ("usages", Usages),
        ("identifier", core.OctetString, {"optional": True}),
        ("sequence_number", core.Integer, {"optional": True}),
        ("this_update", UpdateTime),
        ("next_update", UpdateTime, {"optional": True}),
        ("subject_algorithm", algos.AnyAlgorithmIdentifier),
        ("members", Members, {"optional": True}),
        ("extensions", core.Any, {"explicit": 0, "optional": True}),
    ]
