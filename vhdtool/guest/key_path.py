r"""Registry key paths as people write them, and the hive file that each belongs to.

``HKLM\SYSTEM\CurrentControlSet\Services`` names no file: ``HKLM\SYSTEM`` is the hive SYSTEM, and ``CurrentControlSet``
a link that the running system makes from ``Select\Current`` (Windows Internals, "The Registry").
"""

from __future__ import annotations

from dataclasses import dataclass

from vhdtool.errors import NotFoundError, UsageError

_ROOTS = {
    "HKLM": "HKEY_LOCAL_MACHINE",
    "HKU": "HKEY_USERS",
    "HKCR": "HKEY_CLASSES_ROOT",
    "HKCU": "HKEY_CURRENT_USER",
    "HKCC": "HKEY_CURRENT_CONFIG",
}
_ROOTS |= {long: long for long in _ROOTS.values()}

_HIVES = {
    ("HKEY_LOCAL_MACHINE", "SYSTEM"): "SYSTEM",
    ("HKEY_LOCAL_MACHINE", "SOFTWARE"): "SOFTWARE",
    ("HKEY_LOCAL_MACHINE", "SAM"): "SAM",
    ("HKEY_LOCAL_MACHINE", "SECURITY"): "SECURITY",
    ("HKEY_USERS", ".DEFAULT"): "DEFAULT",
    ("HKEY_USERS", "S-1-5-18"): "DEFAULT",
}
"""Where a hive is mounted, and the name of its file in ``System32\\config``."""

KNOWN_MOUNTS = r"HKLM\SYSTEM, HKLM\SOFTWARE, HKLM\SAM, HKLM\SECURITY, HKU\.DEFAULT"

VOLATILE_KEY = ("SOFTWARE", r"microsoft\virtual machine\auto")
"""Hive and path of the key that the guest makes anew, in memory, at each start: the hive file seldom has it."""


def mount_of(hive: str) -> str:
    r"""Return the key that a hive of ``System32\config`` is mounted at, by the hive's name."""
    root, name = next((place for place, file in _HIVES.items() if file == hive), ("HKEY_LOCAL_MACHINE", hive))
    return f"{root}\\{name}"


@dataclass(frozen=True, slots=True)
class KeyPath:
    r"""A key of a hive.

    ``mount`` is what stands before the path inside the hive (``HKEY_LOCAL_MACHINE\SYSTEM``), ``hive`` the file's name
    in ``System32\config``; both ``None`` for a path from the root of a hive file. ``inner`` is the path from the
    hive's root, empty for the root itself.
    """

    mount: str | None
    hive: str | None
    inner: str

    @property
    def shown(self) -> str:
        """The whole path as REG.EXE writes it; one backslash for the root of a hive file."""
        return "\\".join(part for part in (self.mount, self.inner) if part) or "\\"

    def below(self, name: str) -> KeyPath:
        """The subkey ``name`` of this key."""
        return KeyPath(self.mount, self.hive, f"{self.inner}\\{name}" if self.inner else name)

    @property
    def needs_control_set(self) -> bool:
        """Whether the path begins with ``CurrentControlSet``, which no hive file holds."""
        return self.hive in {"SYSTEM", None} and self.inner.split("\\")[0].lower() == "currentcontrolset"

    def in_control_set(self, number: int) -> str:
        """The path from the hive's root, with ``CurrentControlSet`` replaced by the control set it stands for."""
        return "\\".join([f"ControlSet{number:03d}", *self.inner.split("\\")[1:]])

    @property
    def is_volatile(self) -> bool:
        """Whether this is a key of a Hyper-V guest that lives in memory only."""
        hive, path = VOLATILE_KEY
        return self.hive in {hive, None} and (self.inner.lower() + "\\").startswith(path + "\\")


def parse_key_path(text: str) -> KeyPath:
    """Read a path that begins with a root key (``HKLM`` or ``HKEY_LOCAL_MACHINE``).

    Raises :class:`UsageError` ``key-path`` for a path that names no hive, :class:`NotFoundError` ``key-not-stored``
    for keys that no hive of the machine holds.
    """
    root, parts = _split(text)
    if root is None or (len(parts) < 1 and root in {"HKEY_LOCAL_MACHINE", "HKEY_USERS"}):
        raise UsageError(
            "key-path", "the key path names no hive", found=repr(text), hint=f"It begins with one of: {KNOWN_MOUNTS}."
        )
    if root == "HKEY_CLASSES_ROOT":
        raise NotFoundError(
            "key-not-stored", f"{root} is a view of other keys", hint=r"The machine's part is HKLM\SOFTWARE\Classes."
        )
    hive = _HIVES.get((root, parts[0].upper())) if parts else None
    if hive is None:
        raise NotFoundError(
            "key-not-stored",
            "\\".join([root, *parts[:1]]) + " is in no hive of the machine",
            hint=f"The machine's hives: {KNOWN_MOUNTS}. A user's hive is a file, /Users/NAME/NTUSER.DAT: extract it, "
            "then query the file.",
        )
    return KeyPath(f"{root}\\{parts[0]}", hive, "\\".join(parts[1:]))


def parse_hive_file_path(text: str) -> KeyPath:
    r"""Read a path inside a hive file: from its root, or with the mount before it (``HKLM\X``, ``HKCU``)."""
    root, parts = _split(text)
    if root is None:
        return KeyPath(None, None, "\\".join(parts))
    if root in {"HKEY_LOCAL_MACHINE", "HKEY_USERS"} and parts:
        return KeyPath(f"{root}\\{parts[0]}", None, "\\".join(parts[1:]))
    return KeyPath(root, None, "\\".join(parts))


def _split(text: str) -> tuple[str | None, list[str]]:
    parts = [part for part in text.split("\\") if part]
    root = _ROOTS.get(parts[0].upper()) if parts else None
    return root, parts[1:] if root else parts
