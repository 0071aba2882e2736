"""Is a VHDX in a state in which it may be changed in place?"""

from __future__ import annotations

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.in_place_errors import damaged, needs_recovery
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.vhdx_header_slots import HIGHEST_SEQUENCE
from vhdtool.disk.vhdx_move import find_record
from vhdtool.disk.vhdx_sources import StoredSource

_AMBIGUOUS = {
    "vhdx-headers-equal-sequence": "its two headers contradict each other",
    "vhdx-region-tables-differ": "its two region tables contradict each other",
}


def refuse_unfit_vhdx(layer: VhdxLayer) -> None:
    """Hold that both copies of what a VHDX has twice are whole, that its log has a place, that no change is unfinished.

    A pending log is no reason to refuse. Raises :class:`RefusedError` ``image-needs-recovery``, ``image-damaged``.
    """
    path = layer.info.path
    for copy in layer.headers:
        if not copy.valid:
            raise needs_recovery("a header of the image is damaged", path, copy.offset)
        if copy.header.sequence_number >= HIGHEST_SEQUENCE:
            raise damaged("the image's headers have a sequence number near its end", path, copy.offset)
    for table in layer.region_tables:
        if not table.valid:
            raise needs_recovery("a region table of the image is damaged", path, table.offset)
    for problem in layer.info.problems:
        if problem.code in _AMBIGUOUS:
            raise damaged(f"the image can't be trusted, {_AMBIGUOUS[problem.code]}", path, problem.offset or 0)
    header = next(copy for copy in layer.headers if copy.current)
    if layer.log_range is None or header.header.log_version != fmt.LOG_VERSION:
        raise damaged("the image has no log that could be used", path, header.offset)
    if find_record(StoredSource(layer), layer.virtual_disk_id) is not None:
        raise needs_recovery("a change to the image was interrupted", path, layer.stored_size)
