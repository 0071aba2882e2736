"""Makes docs/reference from the code: the commands' help, the errors, the JSON Schemas; and the texts of codes.

python -m scripts.make_reference [--check]
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from vhdtool import errors
from vhdtool.cli.main import HELP_WIDTH, vhdtool_command
from vhdtool.report.schema import DOCUMENTS, json_schema

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
CODES = ROOT / "vhdtool" / "knowledge" / "codes.json"
KINDS = (
    ("Problems", "Problem"),
    ("Findings", "Finding"),
    ("Findings of disk verify", "AuditFinding"),
    ("Obstacles of advise", "Obstacle"),
)
KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
NOTICE = "<!-- made by scripts/docs from the code -->"


def pages() -> dict[str, str]:
    """Every page by its path below docs/reference."""
    made = {"cli.md": command_page(), "errors.md": error_page(), "documents.md": document_page()}
    made |= {f"schema/{name}.json": json.dumps(json_schema(name), indent=2) + "\n" for name in DOCUMENTS}
    return made


def command_page() -> str:
    parts = [NOTICE, "# Commands", "", "What `--help` prints, for every command."]
    for path, command in commands(vhdtool_command, ("vhdtool",)):
        context = None
        for name in path:
            context = click.Context(command, parent=context, info_name=name, max_content_width=HELP_WIDTH)
        assert context is not None  # noqa: S101  # a path has at least one name
        context.terminal_width = HELP_WIDTH
        help_text = command.get_help(context)
        parts += ["", f"## {' '.join(path)}", "", "```text", help_text, "```"]
    return "\n".join(parts) + "\n"


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from commands(below, (*path, name))


@dataclass(frozen=True, order=True)
class Told:
    """One place of the code that names an error, a problem or a finding."""

    code: str
    kind: str
    exit_code: int | None
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Teller:
    """A class or function whose call names a code: where among its arguments code, message and hint stand.

    ``message`` and ``hint``: those that a function has of its own; ``code``: what it takes where it is given none.
    """

    kind: str
    exit_code: int | None
    code_at: int = 0
    message_at: int | None = 1
    hint_at: int | None = None
    hint_name: str = "hint"
    message: str = ""
    hint: str = ""
    code: ast.expr | None = None


Tellers = dict[str, tuple[Teller, ...]]


def told() -> list[Told]:
    """Every error, problem and finding that the code can name, read from its syntax trees."""
    classes = (errors.VhdtoolError, *subclasses(errors.VhdtoolError))
    known: Tellers = {cls.__name__: (Teller(cls.__name__, cls.exit_code),) for cls in classes}
    known["Problem"] = (Teller("Problem", None),)
    known["AuditFinding"] = (Teller("AuditFinding", None, message_at=2),)
    for name in ("Finding", "Obstacle"):
        known[name] = (Teller(name, None, message_at=2, hint_at=3, hint_name="fix"),)
    trees = [ast.parse(source.read_text(encoding="utf-8")) for source in sorted((ROOT / "vhdtool").rglob("*.py"))]
    public: Tellers = dict(known)
    for tree in trees:
        for name, tellers in makers(tree, known).items():
            if not name.startswith("_"):  # a private one is for its own module
                # without what it takes where it is given no code: others of its name take none at all
                public[name] = (*public.get(name, ()), *(replace(teller, code=None) for teller in tellers))
    found = set()
    for tree in trees:
        local = public | {name: (*own, *public.get(name, ())) for name, own in makers(tree, public).items()}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            for teller in local.get(name_of(call.func), ()):
                codes = list(literals(resolved(argument(call, teller.code_at, "code") or teller.code, tree)))
                if codes and all(map(KEBAB.fullmatch, codes)):
                    found |= {said_by(teller, code, call, tree) for code in codes}
                    break  # the others are functions of the same name, whose code stands elsewhere
    return sorted(found, key=lambda one: (one.code, one.kind, one.message, one.hint, one.exit_code or 0))


def literals(node: ast.expr | None) -> Iterator[str]:
    """The texts that an expression can be: one, or one of several by a condition."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def said_by(teller: Teller, code: str, call: ast.Call, tree: ast.Module) -> Told:
    message = resolved(argument(call, teller.message_at, "message"), tree)
    hint = resolved(argument(call, teller.hint_at, teller.hint_name), tree)
    return Told(
        code,
        teller.kind,
        teller.exit_code,
        teller.message if message is None else text_of(message),
        teller.hint if hint is None else text_of(hint),
    )


def resolved(node: ast.expr | None, tree: ast.Module) -> ast.expr | None:
    """What a name stands for: the last assignment before it in the module's text, where it is one of a text."""
    if not isinstance(node, ast.Name):
        return node
    values = [
        one.value
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign)
        and one.lineno < node.lineno
        and any(isinstance(target, ast.Name) and target.id == node.id for target in one.targets)
    ]
    last = max(values, key=lambda value: value.lineno, default=node)
    return last if isinstance(last, ast.Constant | ast.JoinedStr | ast.BinOp | ast.IfExp) else node


def makers(tree: ast.Module, known: Tellers) -> Tellers:
    """Functions of a module that pass a code of their caller's on to a class."""
    found: Tellers = {}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        given = function.args
        names = [one.arg for one in (*given.args, *given.kwonlyargs) if one.arg not in {"self", "cls"}]
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            for teller in known.get(name_of(call.func), ()):
                code = argument(call, teller.code_at, "code")
                if isinstance(code, ast.Name) and code.id in names:
                    made = maker(teller, call, given, names, code.id)
                    found[function.name] = (*found.get(function.name, ()), made)
                    break
    return found


def maker(teller: Teller, call: ast.Call, given: ast.arguments, names: list[str], code: str) -> Teller:
    """What a function that takes a code is to those who call it; ``call`` is that of the class in it."""
    message, hint = argument(call, teller.message_at, "message"), argument(call, teller.hint_at, teller.hint_name)
    message_at, hint_at = place_of(message, names), place_of(hint, names)
    return Teller(
        teller.kind,
        teller.exit_code,
        names.index(code),
        message_at,
        hint_at,
        hint.id if isinstance(hint, ast.Name) else teller.hint_name,
        teller.message if message is None or message_at is not None else text_of(message),
        teller.hint if hint is None or hint_at is not None else text_of(hint),
        default_of(given, code),
    )


def place_of(node: ast.expr | None, names: list[str]) -> int | None:
    """Which of a function's own arguments an expression is."""
    return names.index(node.id) if isinstance(node, ast.Name) and node.id in names else None


def default_of(given: ast.arguments, name: str) -> ast.expr | None:
    """What a function takes for an argument that it is not given."""
    of_places = zip(reversed(given.args), reversed(given.defaults), strict=False)
    of_names = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    return next((default for one, default in (*of_places, *of_names) if one.arg == name), None)


def argument(call: ast.Call, at: int | None, name: str) -> ast.expr | None:
    """An argument of a call by its place or its name."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[at] if at is not None and at < len(call.args) else None


def name_of(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def subclasses(cls: type[errors.VhdtoolError]) -> Iterator[type[errors.VhdtoolError]]:
    for below in cls.__subclasses__():
        yield below
        yield from subclasses(below)


def text_of(node: ast.expr) -> str:
    """The literal part of a message; what is put in at run time becomes an ellipsis."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return "…"


def code_texts() -> str:
    """What ``vhdtool explain`` tells of each code: a data file of the package."""
    kinds = {"Problem": "problem", "Finding": "finding", "AuditFinding": "disk-finding", "Obstacle": "obstacle"}
    rows: dict[tuple[str, str, int | None], list[Told]] = {}
    for one in told():
        rows.setdefault((one.code, kinds.get(one.kind, "error"), one.exit_code), []).append(one)
    made = [
        {
            "code": code,
            "kind": kind,
            "exit_code": exit_code,
            "messages": said(one.message for one in same),
            "hints": said(one.hint for one in same),
        }
        for (code, kind, exit_code), same in sorted(rows.items(), key=lambda row: (row[0][:2], row[0][2] or 0))
    ]
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in made) + "\n]\n"


def said(texts: Iterable[str]) -> list[str]:
    """The texts that say something, each once."""
    return [text for text in dict.fromkeys(texts) if text.strip("… ")]


def error_page() -> str:
    everything = told()
    parts = [
        NOTICE,
        "# Errors, problems and findings",
        "",
        "An error ends the command with its exit code and one message on stderr:",
        "",
        "```text",
        "vhdtool: error[CODE]: FILE: MESSAGE, expected …, found … (at offset …)",
        "  hint: WHAT TO DO",
        "```",
        "",
        "With `--json`, stdout also gets a document with `error` in place of the result. A problem is something wrong",
        "in the input that reading survived: it stands under `image.problems`. A finding stands under `findings`, and",
        "says what the user should know of an image that was read well. Codes are stable; messages may change.",
        "",
        "`…` stands for what is known only when it happens.",
        "",
        "## Errors",
        "",
        "| code | exit | messages |",
        "|---|---|---|",
    ]
    parts += rows([one for one in everything if one.exit_code is not None], exits=True)
    for title, kind in KINDS:
        parts += ["", f"## {title}", "", "| code | messages |", "|---|---|"]
        parts += rows([one for one in everything if one.kind == kind], exits=False)
    return "\n".join(parts) + "\n"


def rows(entries: list[Told], *, exits: bool) -> Iterator[str]:
    for code in sorted({one.code for one in entries}):
        same = [one for one in entries if one.code == code]
        messages = "; ".join(dict.fromkeys(cell(one.message) for one in same if one.message))
        exit_codes = ", ".join(str(number) for number in sorted({one.exit_code or 0 for one in same}))
        yield f"| `{code}` | {exit_codes} | {messages} |" if exits else f"| `{code}` | {messages} |"


def document_page() -> str:
    parts = [
        NOTICE,
        "# Documents",
        "",
        "What `--json` prints. `vhdtool schema NAME` prints the JSON Schema; the same files are in [schema](schema).",
        "",
        "- Sizes and offsets are in bytes, times in UTC. Unknown is `null`, never a guess.",
        "- Fields may be added to a version of a document; none is renamed, removed or given another meaning.",
        "- One document is one line. With several images there is one line for each, in the order given. On a",
        "  terminal a document is indented.",
        "- A document that could not be made has `error` in place of its facts (`ErrorDocument`).",
        "- Names in an image need not be valid Unicode: half a surrogate pair is written as its escape, six characters",
        "  (`\\udc80`). An image whose own name is not UTF-8 also has `path_b64`, the bytes of the name in base64.",
        "",
        "| NAME | document |",
        "|---|---|",
    ]
    definitions: dict[str, dict[str, Any]] = {}
    for name in DOCUMENTS:
        schema = json_schema(name)
        title = schema["anyOf"][0]["$ref"].rpartition("/")[2]
        parts.append(f"| [{name}](schema/{name}.json) | [{title}](#{title.lower()}) |")
        definitions |= schema["$defs"]
    definitions["ErrorDocument"]["properties"]["schema"] = {"type": "string"}
    for title, definition in definitions.items():
        parts += ["", f"## {title}", "", prose(definition.get("description", "")), "", "| field | type |", "|---|---|"]
        required = definition.get("required", [])
        for field, kind in definition["properties"].items():
            left_out = "" if field in required or "default" in kind else ", may be left out"
            parts.append(f"| `{field}` | {cell(type_of(kind))}{left_out} |")
    return "\n".join(parts) + "\n"


def prose(docstring: str) -> str:
    """A docstring as Markdown."""
    return docstring.replace("``", "`").replace("\n    ", "\n")


def type_of(kind: dict[str, Any]) -> str:
    """A schema's type in words."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in kind:
        return " or ".join(type_of(one) for one in kind["anyOf"])
    if "enum" in kind:
        return ", ".join("null" if one is None else f"`{one}`" for one in kind["enum"])
    if kind.get("type") == "array":
        return f"list of {type_of(kind['items'])}"
    return str(kind.get("type", "anything"))


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    stale = []
    made = {REFERENCE / name: text for name, text in pages().items()} | {CODES: code_texts()}
    for page, text in made.items():
        if page.is_file() and page.read_text(encoding="utf-8") == text:
            continue
        stale.append(page.relative_to(ROOT).as_posix())
        if "--check" not in sys.argv[1:]:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name} {'is not current' if '--check' in sys.argv[1:] else 'written'}")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
