"""Texts of synthetic update packages: manifests and INFs, shaped as genuine ones are."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

V3 = 'xmlns="urn:schemas-microsoft-com:asm.v3"'
MICROSOFT = "31bf3856ad364e35"


def identity(name: str, version: str = "6.3.9600.18398", architecture: str = "amd64", more: str = "") -> str:
    return (
        f'<assemblyIdentity name="{name}" version="{version}" processorArchitecture="{architecture}" '
        f'language="neutral" publicKeyToken="{MICROSOFT}" {more}/>'
    )


def mum(
    name: str = "Test-Package", parents: str = "", updates: str = "", *, package: str = "", root: str = ""
) -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><assembly {V3} manifestVersion="1.0" {root}>{identity(name)}'
        f'<package identifier="KB1234567" releaseType="Update" restart="required" {package}>'
        f"{parents}{updates}</package></assembly>"
    ).encode()


def driver_update(inf: str, ranking: str = "normal") -> str:
    return (
        f'<update name="{inf}-update" displayName="{inf}" restart="required"><applicable disposition="detect"/>'
        f'<driver inf="{inf}" ranking="{ranking}">{identity(inf)}</driver></update>'
    )


def manifest(name: str, files: Mapping[str, bytes], inside: str = "") -> bytes:
    """A component's manifest; files ending in .inf are the INF of a driver."""
    listed = "".join(_file(file, content) for file, content in files.items())
    return f"<assembly {V3}>{identity(name)}{listed}{inside}</assembly>".encode()


def _file(name: str, content: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    inf = "<infFile/>" if name.endswith(".inf") else ""
    return (
        f'<file name="{name}" sourceName="{name}" destinationPath="$(runtime.system32)\\">{inf}'
        '<asmv2:hash xmlns:asmv2="urn:schemas-microsoft-com:asm.v2" xmlns:dsig="http://www.w3.org/2000/09/xmldsig#">'
        '<dsig:Transforms><dsig:Transform Algorithm="urn:schemas-microsoft-com:HashTransforms.Identity"/>'
        '</dsig:Transforms><dsig:DigestMethod Algorithm="http://www.w3.org/2000/09/xmldsig#sha256"/>'
        f"<dsig:DigestValue>{digest}</dsig:DigestValue></asmv2:hash></file>"
    )


def service(name: str, start: str = "demand", trigger: str = "") -> str:
    return (
        '<memberships><categoryMembership><id name="Microsoft.Windows.Categories.Services"/><categoryInstance>'
        f'<serviceData name="{name}" displayName="The {name}" start="{start}" type="win32ShareProcess" '
        f'imagePath="svchost.exe -k {name}" objectName="LocalSystem">{trigger}</serviceData>'
        "</categoryInstance></categoryMembership></memberships>"
    )


def inf(name: str = "drv", version: str = "06/21/2006,6.3.9600.18398", start: int = 3) -> bytes:
    return (
        f'[Version]\r\nSignature="$WINDOWS NT$"\r\nClass=System\r\nProvider=%P%\r\nDriverVer={version}\r\n'
        "[Manufacturer]\r\n%P%=M,NTamd64\r\n[M.NTamd64]\r\n%D%=Install, ROOT\\X\r\n"
        f"[Install.NT.Services]\r\nAddService={name},2,Inst\r\n"
        f"[Inst]\r\nServiceType=1\r\nStartType={start} ; told\r\nServiceBinary=%12%\\{name}.sys\r\n"
        '[Strings]\r\nP="Somebody"\r\nD="A device"\r\n'
    ).encode("utf-16")
