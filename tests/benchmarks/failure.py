"""What makes a benchmark's figures worthless."""


class BenchmarkFailed(Exception):
    """Something was refused, lost, or did not come to an end: there is no figure."""
