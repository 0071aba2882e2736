"""Registry hives: clean, dirty with old and new logs, synthetic and real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.fixtures.guest_files import CONFIG, demo_guest, guest
from tests.fuzz import inputs
from tests.fuzz.fields_hive import hive_fields, hive_seals, log_fields
from tests.fuzz.mutate import Base, Field, Seal
from tests.fuzz.target import Content, Located, Observation, Target
from vhdtool.disk.device import FileDevice
from vhdtool.registry.hive import Hive, Key

LOGS = (".LOG", ".LOG1", ".LOG2")
LOOKUPS = (
    "Select", "ControlSet001\\Services\\vmbus", "controlset001\\services\\VMICHEARTBEAT\\TriggerInfo",
    "Microsoft\\Windows NT\\CurrentVersion", "ControlSet001\\Enum\\ACPI",
)  # fmt: skip


def add_hive(content: Content, hive: Hive, *, whole: bool) -> None:
    """The state, some keys by their paths, and with ``whole`` every key and value."""
    content.add(hive.logs_applied)
    if hive.state == "dirty":
        content.note(["dirty"])
    else:
        content.add(hive.state)
    for path in LOOKUPS:
        key = hive.key(path)
        content.add(path, key is None)
        if key is not None:
            _add_key(content, key)
            start = key.value("Start")
            content.add(start is not None and start.data)
    if whole:
        for key in hive.walk():
            _add_key(content, key)
    content.note(hive.problems)


def _add_key(content: Content, key: Key) -> None:
    content.add(key.name, key.path, key.last_written, key.class_name)
    for value in key.values():
        content.add(value.name, value.type, value.type_name, value.size, value.raw, value.data)
    content.add([subkey.name for subkey in key.subkeys()])


def _run(name: str, *, whole: bool = True) -> Callable[[Path], Observation]:
    def run(folder: Path) -> Observation:
        content = Content()
        file = FileDevice(folder / name)
        logs = [(path.name, FileDevice(path)) for path in sorted(folder.iterdir()) if path.name != name]
        try:
            add_hive(content, Hive.open(file, logs, path=name), whole=whole)
        finally:
            for device in (file, *(log for _, log in logs)):
                device.close()
        return content.seen()

    return run


def locate_hives(files: Mapping[str, Base]) -> Located:
    found: list[Field] = []
    seals: list[Seal] = []
    for name, base in files.items():
        found += log_fields(name, base) if name.endswith(LOGS) else hive_fields(name, base)
        seals += hive_seals(name, base) if base.size >= 512 else []
    return found, seals


def _synthetic(name: str, *, dirty: bool = False) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        files = demo_guest() if dirty else guest()
        for path, data in files.items():
            if path.startswith(f"{CONFIG}/{name}"):
                (folder / path.rpartition("/")[2]).write_bytes(data)

    return build


def _real(name: str, weight: int, source: str, *, logs: tuple[str, ...] = (), whole: bool = True) -> list[Target]:
    """A hive of the collection with its logs; nothing where it is not there."""
    if not inputs.has_real(source):
        return []

    def build(folder: Path) -> None:
        inputs.real(source, folder / "HIVE")
        for suffix in logs:
            inputs.real(source + suffix, folder / f"HIVE{suffix}")

    return [Target(f"hive-{name}", weight, build, _run("HIVE", whole=whole), locate_hives, slow=not whole)]


def hive_targets() -> list[Target]:
    return [
        Target("hive-system", 10, _synthetic("SYSTEM"), _run("SYSTEM"), locate_hives),
        Target("hive-software", 4, _synthetic("SOFTWARE"), _run("SOFTWARE"), locate_hives),
        Target("hive-dirty", 12, _synthetic("SYSTEM", dirty=True), _run("SYSTEM"), locate_hives),
        *_real("new-logs", 6, "hives/yarp/NewDirtyHive1/NewDirtyHive", logs=(".LOG1", ".LOG2")),
        *_real("old-log", 6, "hives/yarp/OldDirtyHive/OldDirtyHive", logs=(".LOG1", ".LOG2")),
        *_real("big-data", 4, "hives/yarp/BigDataHive"),
        *_real("many-subkeys", 3, "hives/yarp/ManySubkeysHive"),
        *_real("unicode", 3, "hives/yarp/UnicodeHive"),
        *_real("strings", 3, "hives/yarp/StringValuesHive"),
        *_real("offreg", 4, "hives/ColinFinck__nt-hive/testhive"),
        *_real("minimal", 2, "hives/libguestfs__hivex/minimal"),
        *_real("special", 2, "hives/libguestfs__hivex/special"),
        *_real("windows-10", 2, "hives/fox-it__dissect.regf/SYSTEM.gz", whole=False),
    ]
