"""The API's OpenAPI description: openapi.yaml, with the limits of this installation."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings

_PATH = Path(__file__).with_name("openapi.yaml")


@lru_cache(maxsize=1)
def description() -> dict[str, Any]:
    """Return the whole description. Only the first call loads PyYAML, which takes memory."""
    document: dict[str, Any] = msgspec.yaml.decode(_PATH.read_bytes())
    document["info"]["description"] += (
        f" A body has at most {settings.MAX_BODY_BYTES} bytes after decompression, and a batch has at most"
        f" {settings.MAX_BATCH_RECORDS} records."
    )
    document["components"]["schemas"]["Batch"]["maxItems"] = settings.MAX_BATCH_RECORDS
    return document
