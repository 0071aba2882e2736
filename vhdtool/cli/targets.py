"""Options of every command that can change an image: where the changes go, and how they are confirmed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from vhdtool.disk.commit import Target, TargetKind
from vhdtool.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ChangeChoice:
    """What the user chose. Without a ``target`` the plan is shown, and nothing is written. ``vm``: a configuration."""

    target: Target | None
    single_opinion: bool
    vm: str | None = None


_OPTIONS = (
    click.option("--child", metavar="PATH", help="Write a differencing child; IMAGE stays as it is."),
    click.option("--in-place", is_flag=True, help="Change IMAGE itself, all or nothing."),
    click.option("--output", "new_image", metavar="PATH", help="Write a new, standalone image."),
    click.option(
        "--parent-windows-path", metavar="PATH", help=r"With --child: IMAGE's path on the Windows host (C:\vm\a.vhdx)."
    ),
    click.option("--journal", is_flag=True, help="With --in-place on raw or fixed VHD: a journal instead of a copy."),
    click.option("--no-fold", is_flag=True, help="With --in-place on VHDX: leave changed blocks at the file's end."),
    click.option("--no-children", is_flag=True, help="With --in-place: my word that IMAGE is no other image's parent."),
    click.option("--children", metavar="DIR", multiple=True, help="With --in-place: look for children in DIR too."),
    click.option("--vm", metavar="CONFIG", help="Refuse while this machine (.vmcx, .xml) is saved or has checkpoints."),
    click.option("--single-opinion", is_flag=True, help="Go on where no other reader can confirm a byte."),
)


def target_options(command: Command) -> Command:
    """Add the options; the command gets ``choice``, a :class:`ChangeChoice`."""

    @functools.wraps(command)
    def with_choice(
        *args: Any,
        child: str | None,
        in_place: bool,
        new_image: str | None,
        parent_windows_path: str | None,
        journal: bool,
        no_fold: bool,
        no_children: bool,
        children: tuple[str, ...],
        vm: str | None,
        single_opinion: bool,
        **kwargs: Any,
    ) -> Any:
        kind, path = _kind(child, in_place=in_place, output=new_image)
        _refuse_idle(
            kind,
            {
                "--parent-windows-path": ("child", parent_windows_path is not None),
                "--journal": ("in-place", journal),
                "--no-fold": ("in-place", no_fold),
                "--no-children": ("in-place", no_children),
                "--children": ("in-place", bool(children)),
            },
        )
        target = None
        if kind is not None:
            target = Target(kind, path, parent_windows_path, journal, not no_fold, no_children, children)
        return command(*args, choice=ChangeChoice(target, single_opinion, vm), **kwargs)

    for option in reversed(_OPTIONS):
        with_choice = option(with_choice)
    return with_choice  # type: ignore[return-value]  # it takes the command's own arguments, less one


def _kind(child: str | None, *, in_place: bool, output: str | None) -> tuple[TargetKind | None, str | None]:
    chosen: list[tuple[TargetKind, str | None]] = []
    if child is not None:
        chosen.append(("child", child))
    if in_place:
        chosen.append(("in-place", None))
    if output is not None:
        chosen.append(("output", output))
    if len(chosen) > 1:
        raise UsageError("targets", "--child, --in-place and --output exclude each other", hint="Name one of them.")
    return chosen[0] if chosen else (None, None)


def _refuse_idle(kind: TargetKind | None, given: dict[str, tuple[TargetKind, bool]]) -> None:
    """An option that would do nothing was meant to do something."""
    for option, (wanted, is_given) in given.items():
        if is_given and kind != wanted:
            raise UsageError("targets", f"{option} belongs to --{wanted}", hint=f"Add --{wanted}, or leave it out.")
