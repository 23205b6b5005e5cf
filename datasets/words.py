"""Words for people."""


def counted(count: int, noun: str = "record") -> str:
    """`1 record`, `2,000 records`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
