"""Find stored rows by their IDs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from config.lazy import deltalake
from config.lazy import pyarrow as pa
from config.lazy import pyarrow_compute as pc

_IDS_PER_QUERY = 10_000
_MAX_GAP_MS = 60_000  # IDs at most this far apart share a range


def trace_ids(delta: deltalake.DeltaTable, ids: Iterable[str]) -> dict[str, set[str]]:
    """Return the trace IDs of the rows with these record IDs, by record ID. IDs without a row are left out.

    The statistics of each file have the lowest and highest ID of its rows. So only files that can have the IDs are
    read.
    """
    wanted = sorted(set(ids))
    found: defaultdict[str, set[str]] = defaultdict(set)
    for at in range(0, len(wanted), _IDS_PER_QUERY):
        for row_id, trace in _rows(delta, wanted[at : at + _IDS_PER_QUERY]):
            found[row_id].add(trace)
    return dict(found)


def _rows(delta: deltalake.DeltaTable, ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the ID and the trace ID of each row that has one of these sorted IDs."""
    terms = " OR ".join(f"id BETWEEN '{lowest}' AND '{highest}'" for lowest, highest in _ranges(ids))
    sql = f'SELECT id, "__traceId" FROM records WHERE {terms}'  # noqa: S608
    for batch in pa.RecordBatchReader.from_stream(deltalake.QueryBuilder().register("records", delta).execute(sql)):
        row_ids, traces = (column.cast(pa.string()) for column in batch.columns)
        is_wanted = pc.is_in(row_ids, pa.array(ids))
        yield from zip(row_ids.filter(is_wanted).to_pylist(), traces.filter(is_wanted).to_pylist(), strict=True)


def _ranges(ids: Sequence[str]) -> list[tuple[str, str]]:
    """Group sorted IDs that are close in time into (lowest, highest) ranges. An ID begins with milliseconds."""
    ranges: list[tuple[str, str]] = []
    for each in ids:
        if ranges and int(each.partition("-")[0]) - int(ranges[-1][1].partition("-")[0]) < _MAX_GAP_MS:
            ranges[-1] = ranges[-1][0], each
        else:
            ranges.append((each, each))
    return ranges
