"""``vhdtool inspect``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from vhdtool.cli import failures
from vhdtool.cli.options import all_services_option, examples, output_options, parent_option
from vhdtool.cli.output import Output
from vhdtool.cli.progress import progress_bar
from vhdtool.errors import UsageError, VhdtoolError

SCHEMA = "vhdtool.inspect/1"


@click.command(
    epilog=examples(
        "vhdtool inspect server.vhdx",
        "vhdtool inspect --json *.vhdx",
        "vhdtool inspect server.vhdx --hash --evidence-dir case-17",
    )
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@all_services_option
@click.option("--evidence-dir", metavar="DIR", help="Save the files that facts were read from, with a manifest.")
@click.option("--hash", "hashed", is_flag=True, help="Add the SHA-256 of the image file and its parents.")
@parent_option
@output_options
def inspect(
    *,
    images: tuple[str, ...],
    all_services: bool,
    evidence_dir: str | None,
    hashed: bool,
    parent: str | None,
    output: Output,
) -> int:
    r"""Tell everything that is known of each IMAGE: disk, volumes, guests.

    With several images and --json: one document a line, in the order given.
    """
    output.protect(*images)
    wanted = _Wanted(all_services, evidence_dir, hashed, parent)
    if len(images) == 1:
        with output.answering(SCHEMA, images[0]):
            _inspect(images[0], wanted, output)
        return 0
    for option, value in (("--parent", parent), ("--evidence-dir", evidence_dir)):
        if value is not None:
            raise UsageError("one-image", f"{option} belongs to one image", found=f"{len(images)} images")
    return max([_inspect_one_of_several(image, wanted, output) for image in images])


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The options of one call."""

    all_services: bool
    evidence_dir: str | None
    hashed: bool
    parent: str | None


def _inspect_one_of_several(image: str, wanted: _Wanted, output: Output) -> int:
    try:
        _inspect(image, wanted, output)
    except BrokenPipeError:
        raise
    except VhdtoolError as error:
        if error.exit_code == failures.CANNOT_WRITE:  # nobody can take the results: no use in going on
            raise
        failures.tell_error(error)
        output.emit_failure(SCHEMA, image, error)
        return failures.SOME_FAILED
    except Exception as error:  # a fault of ours in one image must not cost the others
        failures.tell_fault(error)
        output.emit_failure(SCHEMA, image, failures.as_error(error))
        return failures.FAULT
    return 0


def _inspect(path: str, wanted: _Wanted, output: Output) -> None:
    from vhdtool.image import open_image  # noqa: PLC0415  # --help does not need the readers
    from vhdtool.report.inspection import hash_layers, inspect_document  # noqa: PLC0415
    from vhdtool.report.text_guest import inspect_blocks  # noqa: PLC0415

    with open_image(path, parent=wanted.parent) as image:
        output.protect(*(layer.info.path for layer in image.disk.layers))
        evidence = Path(wanted.evidence_dir) if wanted.evidence_dir is not None else None
        if evidence is not None:
            from vhdtool.report.evidence import prepare_directory, save_evidence  # noqa: PLC0415

            prepare_directory(evidence)
        hashes = hash_layers(image, progress_bar()) if wanted.hashed else None
        document = inspect_document(image, all_services=wanted.all_services, hashes=hashes)
        if evidence is not None:
            saved = save_evidence(image, document.image, evidence)
            failures.tell_note(f"{len(saved.files)} files and their manifest are in {evidence}")
        output.emit(document, inspect_blocks)
