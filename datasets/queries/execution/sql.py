"""Turn a query into SQL. Each value of the query is a parameter. Each name is a quoted column of the table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from datasets.queries.columns import PERCENTILES
from datasets.queries.query import Aggregate, Bucket, Column, Condition, Order, Output, Plain, Query, Value

TABLE = "records"
_UTC = "UTC"
_TURNED_BACK = (20, 30, 60, 120)  # the minutes by which clocks may be turned back at midnight
POSITION = "position"  # a table with one row: the sort keys of the record after which the page begins
_ID = Column("id", "string")

# DuckDB's types of values. The type of a decimal depends on its arguments: see `duckdb_type`.
_TYPES = {
    **dict.fromkeys(("string", "enum", "uuid", "json", "context"), "VARCHAR"),
    "number": "DOUBLE",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
    "date": "DATE",
}
_DIRECTIONS = {False: "ASC", True: "DESC"}  # by whether a key is descending
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_FUNCTIONS = {
    "count": "count({})",
    "count_distinct": "count(DISTINCT {})",
    "sum": "sum({})",
    "avg": "avg({})",
    "min": "min({})",
    "max": "max({})",
    # quantile_cont interpolates between the two nearest values.
    **{name: f"quantile_cont(CAST({{}} AS DOUBLE), {fraction})" for name, fraction in PERCENTILES.items()},
}
# Compensated (Kahan) sums of doubles, which hardly depend on the order of the rows.
_OF_DOUBLES = {"sum": "fsum({})", "avg": "favg({})"}


def duckdb_type(type_name: str) -> str:
    """Return DuckDB's type for a type of the schema language."""
    if type_name.endswith("[]"):
        return f"{duckdb_type(type_name[:-2])}[]"
    if type_name.startswith("decimal("):
        return type_name.upper()
    return _TYPES[type_name]


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def literal(text: str) -> str:
    """Return a text as an SQL literal. Use it only where SQL takes no parameters."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


# -- the table


def no_rows(columns: Iterable[Column]) -> str:
    """Return the statement that creates a view without rows."""
    return f"CREATE OR REPLACE TEMP VIEW {TABLE} AS SELECT {columns_of((), columns)} WHERE false"


def rows_of_files(paths: Iterable[str], columns: Iterable[Column]) -> str:
    """Return the statement that creates a view of Parquet files. A column that a file does not have is null.

    The statement names the schema. Otherwise, DuckDB would read the footers of all files several times.
    """
    files = ", ".join(map(literal, paths))
    schema = ", ".join(map(_in_schema, columns))
    return f"CREATE OR REPLACE TEMP VIEW {TABLE} AS SELECT * FROM read_parquet([{files}], schema = MAP {{{schema}}})"


def _in_schema(column: Column) -> str:
    name = literal(column.name)
    return f"{name}: {{name: {name}, type: {literal(duckdb_type(column.type))}, default_value: NULL}}"


def columns_of(present: Collection[str], columns: Iterable[Column]) -> str:
    """Return columns for a SELECT. A column that is not present is null."""
    return ", ".join(
        quoted(column.name)
        if column.name in present
        else f"CAST(NULL AS {duckdb_type(column.type)}) AS {quoted(column.name)}"
        for column in columns
    )


# -- statements


class Statement:
    """Writes the expressions of one statement, and collects its parameters."""

    def __init__(self) -> None:
        self.parameters: list[Any] = []
        self._zones: dict[str, str] = {}
        # Write a bucket with the same text each time. Otherwise, DuckDB does not know that it is the same expression.
        self._buckets: dict[Bucket, str] = {}

    def value(self, value: Any, type_name: str) -> str:
        """Add a parameter, and return its placeholder with a cast to a type of the schema language."""
        self.parameters.append(value)
        return f"CAST(${len(self.parameters)} AS {duckdb_type(type_name)})"

    # -- expressions

    def output(self, output: Output) -> str:
        """Return the expression of an output. A bucket is a moment or a local time, see `_bucket`."""
        match output:
            case Bucket():
                if output not in self._buckets:
                    self._buckets[output] = self._bucket(output)
                return self._buckets[output]
            case Aggregate():
                return self._aggregate(output)
        return quoted(output.column.name)

    def _aggregate(self, aggregate: Aggregate) -> str:
        column = aggregate.column
        if column is None:
            return "count(*)"
        is_double = column.kind == "number" and aggregate.function in _OF_DOUBLES
        return (_OF_DOUBLES if is_double else _FUNCTIONS)[aggregate.function].format(compared(column))

    def key(self, output: Output) -> str:
        """Return the expression by which rows are grouped or sorted."""
        return self.output(output) if isinstance(output, Bucket | Aggregate) else compared(output.column)

    def selected(self, output: Output, *, is_plain: bool) -> str:
        """Return the expression of a result column. If `is_plain`, the rows of the result are records, else groups."""
        if isinstance(output, Bucket) and not _is_moment(output):
            return self._moment(output)
        found = self.output(output) if is_plain else self.key(output)
        if isinstance(output, Plain) and output.max_characters is not None:
            return f"left(CAST({found} AS VARCHAR), {output.max_characters:d})"
        return found

    def _moment(self, bucket: Bucket) -> str:
        """Return the first moment of a bucket whose key is a local time.

        DuckDB converts the local time, because Python's time zones may be of another year than DuckDB's. If clocks are
        turned back at midnight, there are two midnights, and DuckDB returns the second one. So look for an earlier
        moment with the same local time.
        """
        start = self.key(bucket)
        if bucket.timezone == _UTC:
            return f"timezone('UTC', {start})"
        zone = self._zone(bucket)
        last = f"timezone({zone}, {start})"
        earlier = [f"{last} - INTERVAL {minutes} MINUTE" for minutes in _TURNED_BACK]
        same = [f"CASE WHEN timezone({zone}, {each}) = {start} THEN {each} END" for each in earlier]
        return f"least({last}, {', '.join(same)})"  # least ignores nulls

    def _zone(self, bucket: Bucket) -> str:
        """Return the placeholder of a bucket's time zone: the same one each time."""
        if bucket.timezone not in self._zones:
            self._zones[bucket.timezone] = self.value(bucket.timezone, "string")
        return self._zones[bucket.timezone]

    def _bucket(self, bucket: Bucket) -> str:
        """Return the start of a bucket: a moment if `_is_moment`, else a local time, which `selected` converts.

        In a time zone with clock changes, a local time may come twice. So minutes and hours must be moments.
        """
        column = quoted(bucket.column.name)
        if bucket.timezone == _UTC:  # this takes a quarter of the time of the general case below
            local = f"make_timestamp(epoch_us({column}))"
        else:
            local = f"timezone({self._zone(bucket)}, {column})"
        start = f"date_trunc('{bucket.unit}', {local})"
        return f"({column} - ({local} - {start}))" if _is_moment(bucket) else start

    # -- conditions

    def where(self, query: Query, keys: Sequence[tuple[str, bool]] = ()) -> str:
        """Return the conditions of a query. With `keys`, rows must also come after the cursor's record.

        Args:
            query: The query.
            keys: The expression of each sort key, and whether it is descending.
        """
        timestamp = quoted("timestamp")
        terms = [
            f"{timestamp} >= {self.value(query.start, 'timestamp')}",
            f"{timestamp} <= {self.value(query.end, 'timestamp')}",
            *(self._condition(each) for each in query.where),
        ]
        if query.after is not None and keys:
            terms.append(_after(keys))
        return " AND ".join(terms)

    def _condition(self, condition: Condition) -> str:
        kind = condition.column.type.removesuffix("[]")
        values = [self.value(each, kind) for each in comparable(condition)]
        return term(condition, values, contains="list_contains")


def comparable(condition: Condition) -> list[Value]:
    """Return the values of a condition as `term` compares them: UUIDs in lower case, others unchanged."""
    is_uuid = condition.column.type.removesuffix("[]") == "uuid"
    return [each.lower() if is_uuid and isinstance(each, str) else each for each in condition.values]


def term(condition: Condition, values: Sequence[str], *, contains: str) -> str:
    """Return the SQL of a condition.

    Args:
        condition: The condition.
        values: The SQL of the values that `comparable` returns.
        contains: The engine's function that says whether an array has a value.
    """
    column, op = condition.column, condition.op
    name = compared(column)
    if op in ("is_null", "is_not_null"):
        return f"{name} IS {'NOT ' if op == 'is_not_null' else ''}NULL"
    if op in ("in", "not_in"):
        return f"{name} {'NOT ' if op == 'not_in' else ''}IN ({', '.join(values)})"
    if op in _COMPARISONS:
        return f"{name} {op} {values[0]}"
    return f"{contains if column.kind == 'array' else op}({name}, {values[0]})"


def compared(column: Column) -> str:
    """Return the expression of a column in a comparison: UUIDs in lower case, others unchanged."""
    name = quoted(column.name)
    return f"lower({name})" if column.kind == "uuid" else name


def _is_moment(bucket: Bucket) -> bool:
    """Return whether `key` is the bucket's start as a moment, and not as a local time."""
    return bucket.unit in ("minute", "hour") and bucket.timezone != _UTC


def _after(keys: Sequence[tuple[str, bool]]) -> str:
    """Return the condition that a row comes after the row in POSITION. Null comes after everything else."""
    terms: list[str] = []
    equal: list[str] = []
    for number, (key, descending) in enumerate(keys):
        at = f"(SELECT k{number} FROM {POSITION})"
        later = f"({key} {'<' if descending else '>'} {at} OR ({key} IS NULL AND {at} IS NOT NULL))"
        terms.append(" AND ".join((*equal, later)))
        equal.append(f"{key} IS NOT DISTINCT FROM {at}")
    return f"({' OR '.join(f'({each})' for each in terms)})"


def _sorted_by(statement: Statement, orders: Sequence[Order], *, is_plain: bool) -> list[tuple[str, bool]]:
    keys = [(statement.key(each.by), each.descending) for each in orders]
    return [*keys, (quoted(_ID.name), False)] if is_plain else keys


def position(query: Query) -> tuple[str, list[Any]]:
    """Return the statement that puts the sort keys of the cursor's record into POSITION, and its parameters."""
    statement = Statement()
    keys = _sorted_by(statement, query.order_by, is_plain=True)
    named = ", ".join(f"{key} AS k{number}" for number, (key, _) in enumerate(keys))
    is_it = f"{quoted(_ID.name)} = {statement.value(query.after, 'string')}"
    sql = f"CREATE TEMP TABLE {POSITION} AS SELECT {named} FROM {TABLE} WHERE {is_it} AND {statement.where(query)}"
    return sql, statement.parameters


def boundary(query: Query) -> tuple[str, list[Any]]:
    """Return the statement that finds the first sort key of the last row that `result` needs, and its parameters."""
    statement = Statement()
    keys = _sorted_by(statement, query.order_by, is_plain=True)
    key, descending = keys[0]
    sql = f"SELECT {key} AS k0 FROM {TABLE} WHERE {statement.where(query, keys)}"
    return (
        f"{sql} ORDER BY k0 {_DIRECTIONS[descending]} NULLS LAST LIMIT 1 OFFSET {query.limit:d}",
        statement.parameters,
    )


def result(query: Query) -> tuple[str, list[Any]]:
    """Return the statement that selects the rows of the result, and its parameters.

    It selects one row more than the limit, to show whether there are more rows. The columns are called c0, c1, …. If
    the rows are records, there is one more column with the record's ID.
    """
    statement = Statement()
    outputs = [statement.selected(each, is_plain=query.is_plain) for each in query.select]
    if query.is_plain:
        outputs.append(quoted(_ID.name))
    keys = _sorted_by(statement, query.order_by, is_plain=query.is_plain)
    named = ", ".join(f"{each} AS c{number}" for number, each in enumerate(outputs))
    sql = f"SELECT {named} FROM {TABLE} WHERE {statement.where(query, keys)}"
    if query.group_by:
        sql += f" GROUP BY {', '.join(map(statement.key, query.group_by))}"
    if keys:
        sql += f" ORDER BY {', '.join(f'{key} {_DIRECTIONS[descending]} NULLS LAST' for key, descending in keys)}"
    return f"{sql} LIMIT {query.limit + 1:d}", statement.parameters


def used_columns(query: Query) -> Iterator[Column]:
    """Yield the columns that a query reads. The same column may come more than once."""
    yield Column("timestamp", "timestamp")
    yield _ID
    for output in (*query.select, *query.group_by, *(each.by for each in query.order_by)):
        if output.column is not None:
            yield output.column
    yield from (each.column for each in query.where)
