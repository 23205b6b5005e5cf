"""The error that makes the figures of a benchmark worthless."""


class BenchmarkFailed(Exception):
    """A request was refused, a record was lost, or a process did not end. So there is no figure."""
