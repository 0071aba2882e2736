"""``vhdtool check``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from vhdtool.cli import failures
from vhdtool.cli.check_output import CheckOutput, check_output_options
from vhdtool.cli.options import examples, parent_option
from vhdtool.errors import UsageError, VhdtoolError

if TYPE_CHECKING:
    from vhdtool.checks.policy import FailOn, Policy
    from vhdtool.report.check import CheckedImage

SCHEMA = "vhdtool.check/1"
STANDARD_INPUT = "-"

_Work = Callable[[], Mapping[str, Any]]


@click.command(
    epilog=examples(
        "vhdtool check server.vhdx",
        "vhdtool check *.vhdx --policy golden.toml --fail-on high",
        "vhdtool check server.vhdx --with generalized --without services-expected",
        "vhdtool check --from-json saved.json -o table -o sarif=check.sarif",
        "vhdtool inspect *.vhdx --json | vhdtool check --from-json - -o junit",
    )
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--policy", "policy_file", metavar="FILE", help="Checks, rules and waivers in TOML; else the baseline.")
@click.option(
    "--fail-on",
    type=click.Choice(["info", "low", "medium", "high", "never"]),
    help="The least severity that ends 1; else the policy's, or low.",
)
@click.option("--with", "wanted", metavar="CODE", multiple=True, help="Add a check. May be repeated.")
@click.option("--without", "unwanted", metavar="CODE", multiple=True, help="Leave a check out. May be repeated.")
@click.option("--from-json", is_flag=True, help="Each IMAGE is a file that inspect --json wrote, or - for stdin.")
@parent_option
@check_output_options
def check(
    *,
    images: tuple[str, ...],
    policy_file: str | None,
    fail_on: FailOn | None,
    wanted: tuple[str, ...],
    unwanted: tuple[str, ...],
    from_json: bool,
    parent: str | None,
    output: CheckOutput,
) -> int:
    r"""Check images against the built-in baseline or a policy.

    Ends 0 when nothing fails, 1 when something of at least the severity of
    --fail-on does. An image that can't be read ends with its error's exit code;
    one of several ends 5, whatever the others have. vhdtool explain CODE tells
    what a check is for.
    """
    from vhdtool.checks.policy import baseline_policy, with_choice  # noqa: PLC0415  # --help does not need the rules
    from vhdtool.report.check import CheckedAll, load_policy  # noqa: PLC0415

    output.protect(*(image for image in images if not from_json or image != STANDARD_INPUT))
    if parent is not None and (from_json or len(images) > 1):
        raise UsageError("one-image", "--parent belongs to one image", found="saved documents or several images")
    if policy_file is not None:
        output.protect(policy_file)
    policy = with_choice(baseline_policy() if policy_file is None else load_policy(policy_file), wanted, unwanted)
    call = _Call(policy, fail_on or policy.fail_on, datetime.now(UTC).date(), output)
    found = _saved(images) if from_json else _images(images, parent, call)
    results = [call.check(path, work, alone=alone) for path, work, alone in found]
    checks = tuple(chosen.check for chosen in policy.checks)
    checked = CheckedAll(tuple(call.checked), checks, call.fail_on)
    output.emit_wholes({"sarif": lambda: _sarif(checked), "junit": lambda: _junit(checked)})
    call.tell_expired()
    return _exit_code(results)


def _sarif(checked: Any) -> bytes:
    from vhdtool.report.sarif import sarif_log  # noqa: PLC0415

    return sarif_log(checked)


def _junit(checked: Any) -> bytes:
    from vhdtool.report.junit import junit_xml  # noqa: PLC0415

    return junit_xml(checked)


def _exit_code(results: list[int]) -> int:
    """Of one image its own; of several: what failed to be read outweighs what was found."""
    if len(results) == 1:
        return results[0]
    if failures.FAULT in results:
        return failures.FAULT
    failed = any(code not in {0, failures.FINDINGS} for code in results)
    return failures.SOME_FAILED if failed else max(results, default=0)


@dataclass(slots=True)
class _Call:
    """One call of the command, and what has come of it so far."""

    policy: Policy
    fail_on: FailOn
    today: date
    output: CheckOutput
    checked: list[CheckedImage] = field(default_factory=list)

    def check(self, path: str, work: _Work, *, alone: bool) -> int:
        """Check one image, write its document, and return the exit code it would have by itself."""
        from vhdtool.report.check import CheckedImage, check_document  # noqa: PLC0415
        from vhdtool.report.text_check import check_blocks  # noqa: PLC0415

        try:
            document = check_document(work(), self.policy, self.fail_on, self.today)
        except BrokenPipeError:
            raise
        except VhdtoolError as error:
            if error.exit_code == failures.CANNOT_WRITE:  # nobody can take the results: no use in going on
                raise
            return self._failed(path, error, error.exit_code)
        except Exception as error:  # a fault of ours in one image must not cost the others
            if alone:
                raise
            return self._failed(path, error, failures.FAULT)
        self.checked.append(CheckedImage(path, document))
        self.output.emit(document, check_blocks)
        return 0 if document.passed else failures.FINDINGS

    def _failed(self, path: str, error: Exception, exit_code: int) -> int:
        from vhdtool.report.check import CheckedImage  # noqa: PLC0415

        told = failures.as_error(error)
        if isinstance(error, VhdtoolError):
            failures.tell_error(error)
        else:
            failures.tell_fault(error)
        self.checked.append(CheckedImage(path, None, told))
        self.output.emit_failure(SCHEMA, path, told)
        return exit_code

    def tell_expired(self) -> None:
        """Tell on stderr of waivers that do not count any more, where no table does."""
        if self.output.text and self.checked:
            return
        for waiver in self.policy.waivers:
            if waiver.has_expired(self.today):
                failures.tell_note(
                    f"the waiver of {waiver.code} expired on {waiver.expires} and does not count: {waiver.reason}"
                )


def _images(images: tuple[str, ...], parent: str | None, call: _Call) -> Iterator[tuple[str, _Work, bool]]:
    for path in images:
        yield path, _Opened(path, parent, call), len(images) == 1


@dataclass(frozen=True, slots=True)
class _Opened:
    """Inspects an image when it is its turn."""

    path: str
    parent: str | None
    call: _Call

    def __call__(self) -> Mapping[str, Any]:
        from vhdtool.image import open_image  # noqa: PLC0415
        from vhdtool.report.check import inspected  # noqa: PLC0415

        with open_image(self.path, parent=self.parent) as image:
            self.call.output.protect(*(layer.info.path for layer in image.disk.layers))
            return inspected(image, self.call.policy)


def _saved(files: tuple[str, ...]) -> Iterator[tuple[str, _Work, bool]]:
    """Every document of every file; a file that can't be read, or not to its end, counts as one that failed."""
    for file in files:
        documents = _documents(file)
        while True:
            try:
                document = next(documents)
            except StopIteration:
                break
            except VhdtoolError as error:
                yield file, _Failing(error), False
                break
            yield _named(document, file), _Saved(document, file), False


def _documents(file: str) -> Iterator[Mapping[str, Any]]:
    from vhdtool.checks.saved import MAX_SAVED  # noqa: PLC0415
    from vhdtool.report.check import saved_file, saved_stream  # noqa: PLC0415

    if file == STANDARD_INPUT:
        yield from saved_stream(sys.stdin.buffer.read(MAX_SAVED + 1))
    else:
        yield from saved_file(file)


def _named(document: Mapping[str, Any], file: str) -> str:
    from vhdtool.report.check import saved_name  # noqa: PLC0415

    return saved_name(document, file)


@dataclass(frozen=True, slots=True)
class _Saved:
    """A document as it was saved; that of an image that failed then fails now."""

    document: Mapping[str, Any]
    file: str

    def __call__(self) -> Mapping[str, Any]:
        from vhdtool.report.check import raise_saved_error, saved_name  # noqa: PLC0415

        raise_saved_error(self.document, saved_name(self.document, self.file))
        return self.document


@dataclass(frozen=True, slots=True)
class _Failing:
    """What can't be read."""

    error: VhdtoolError

    def __call__(self) -> Mapping[str, Any]:
        raise self.error
