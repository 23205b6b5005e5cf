"""The records of the benchmark. Each one is a variation of the contract's example."""

import json
import random
from pathlib import Path
from typing import Any

from datasets.schemas.fields import Field

FIELDS = [
    Field("country", "string"),
    Field("plan", "string"),
    Field("amount", "number"),
    Field("active", "boolean"),
    Field("signup_at", "timestamp"),
]
SIZES = (1, 100, 1000)
# Number of different bodies of each size. They are sent in turn.
_VARIANTS = {1: 1000, 100: 200, 1000: 50}
_COUNTRIES = (
    "AT",
    "BE",
    "CZ",
    "DE",
    "DK",
    "ES",
    "FI",
    "FR",
    "GR",
    "HU",
    "IE",
    "IT",
    "NL",
    "PL",
    "PT",
    "RO",
    "SE",
    "US",
)


def _record(chance: random.Random) -> dict[str, Any]:
    return {
        "timestamp": f"2026-06-{chance.randint(1, 30):02}T{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:00Z",
        "context": {"source": "billing-service", "request_id": f"req_{chance.getrandbits(32):08x}"},
        "country": chance.choice(_COUNTRIES),
        "plan": chance.choice(("free", "pro")),
        "amount": round(chance.uniform(0, 1000), 2),
        "active": chance.random() < 0.8,
        "signup_at": f"2026-05-{chance.randint(1, 31):02}T{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:00Z",
    }


def body(size: int, seed: int) -> bytes:
    """Return the body of a request: an object for 1 record, else an array."""
    chance = random.Random(f"{size}/{seed}")
    records = [_record(chance) for _ in range(size)]
    return json.dumps(records[0] if size == 1 else records, separators=(",", ":")).encode()


def write_bodies(directory: Path) -> dict[int, list[Path]]:
    """Write bodies of each size to files, which wrk reads."""
    directory.mkdir(parents=True, exist_ok=True)
    files: dict[int, list[Path]] = {}
    for size in SIZES:
        files[size] = [directory / f"{size}-{variant}.json" for variant in range(_VARIANTS[size])]
        for variant, file in enumerate(files[size]):
            file.write_bytes(body(size, variant))
    return files
