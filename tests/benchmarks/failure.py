"""The error that makes the figures of a benchmark worthless."""


class BenchmarkFailed(Exception):
    """Something was refused or lost, or did not end, so there is no figure."""
