"""The OpenAPI description of both APIs, with the limits of this installation, and the page /docs, which shows it.

openapi.yaml describes the ingest API. drf-spectacular describes the management API from its views and serializers.
management.yaml adds what drf-spectacular cannot find there.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularSwaggerView
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from datasets.api.errors import exception_handler
from ingest.api import management

_FOLDER = Path(__file__).parent


class DocsPage(SpectacularSwaggerView):
    """The page that shows the description. The answer is always HTML, even if the client accepts only other types."""

    url = "/openapi.json"
    http_method_names = ("get", "head")

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """Return the only renderer."""
        renderer: Any = self.get_renderers()[0]
        return renderer, renderer.media_type

    def get_exception_handler(self) -> Callable[..., Any]:
        """Return the handler that knows DRF's errors."""
        return exception_handler


@lru_cache(maxsize=1)
def description() -> dict[str, Any]:
    """Return the whole description. Only the first call loads PyYAML, which takes memory."""
    document: dict[str, Any] = msgspec.yaml.decode((_FOLDER / "openapi.yaml").read_bytes())
    document["info"]["description"] += (
        f" A body has at most {settings.MAX_BODY_BYTES} bytes after decompression, and a batch has at most"
        f" {settings.MAX_BATCH_RECORDS} records."
    )
    document["components"]["schemas"]["Batch"]["maxItems"] = settings.MAX_BATCH_RECORDS
    _add_management(document)
    return document


def _add_management(document: dict[str, Any]) -> None:
    """Add the management API to the description of the ingest API."""
    document["info"]["description"] += " The management API is at /api/, and takes personal access tokens."
    make: Any = SchemaGenerator  # the class has no type hints
    generator = make(patterns=[path("api/", include(management.urlpatterns))])
    described: dict[str, Any] = generator.get_schema(request=None, public=True)
    document["paths"] |= {address.rstrip("/"): operations for address, operations in described["paths"].items()}
    written = msgspec.yaml.decode((_FOLDER / "management.yaml").read_bytes())
    schemas = described["components"]["schemas"] | written.pop("schemas")
    for kind, components in (("schemas", schemas), *written.items()):
        document["components"][kind] |= components
