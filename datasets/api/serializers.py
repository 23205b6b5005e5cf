"""How the management API reads and shows projects, datasets, schema versions and keys.

As in the ingest API, no value is converted to another type, and an unknown name is an error.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from config.common import clock
from datasets.models import ApiKey, Dataset, Project, SchemaVersion
from datasets.names import check_name
from datasets.origins import MAX_ORIGINS, read_origins
from datasets.schemas.date_times import EXAMPLE, Timestamp
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field

MAX_INTEGER = 2**31 - 1  # the maximum of the database's integer columns
_TIMESTAMP = type_of(Field("", "timestamp"))


class StrictCharField(serializers.CharField):
    """Accepts only a JSON string. DRF's own field also accepts a number."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictSlugField(serializers.SlugField):
    """Accepts only a JSON string. DRF's own field also accepts a number."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """Accepts only true and false. DRF's own field also accepts "yes" and 1."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class StrictIntegerField(serializers.IntegerField):
    """Accepts only a JSON number without a fraction. DRF's own field also accepts a string."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictDateTimeField(serializers.DateTimeField):
    """Accepts a timestamp as in records. DRF's own field also accepts a date, and a time without an offset."""

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str):
            raise serializers.ValidationError(f"Send a text like {EXAMPLE}.")
        text = json.dumps(data, ensure_ascii=False).encode(errors="replace")
        if not _TIMESTAMP.accepts(text):
            raise serializers.ValidationError(f"Send a text like {EXAMPLE}. {_TIMESTAMP.why_not(text)}")
        moment: datetime = msgspec.convert(data, Timestamp)
        return moment.astimezone(UTC)


@extend_schema_field({"type": "array", "items": {"type": "string", "format": "uri"}, "maxItems": MAX_ORIGINS})
class OriginsField(serializers.ListField):
    """Accepts a JSON array of origins. An answer shows them as browsers send them."""

    child = StrictCharField()

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list) or not all(isinstance(each, str) for each in data):
            raise serializers.ValidationError("Send an array of strings.")
        try:
            return read_origins(data)
        except ValidationError as wrong:
            raise serializers.ValidationError(wrong.messages) from None


class StrictSerializer(serializers.Serializer[Any]):
    """Reads what a client sends. A member that is not a field is an error."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [name for name in data if name not in self.fields]
            if unknown:
                known = ", ".join(self.fields)
                raise serializers.ValidationError({name: [f"Unknown. Send: {known}."] for name in unknown[:20]})
        return super().to_internal_value(data)


class NewProject(StrictSerializer):
    """A project to create."""

    slug = StrictSlugField(max_length=100)
    name = StrictCharField(max_length=200, validators=[check_name], required=False)


class NewDataset(StrictSerializer):
    """A dataset to create."""

    name = StrictCharField(max_length=200, validators=[check_name])
    slug = StrictSlugField(max_length=100, required=False)
    description = StrictCharField(allow_blank=True, required=False)


class DatasetChanges(StrictSerializer):
    """What a client may change of a dataset."""

    name = StrictCharField(max_length=200, validators=[check_name], required=False)
    slug = StrictSlugField(max_length=100, required=False)
    description = StrictCharField(allow_blank=True, required=False)
    archived = StrictBooleanField(required=False)
    is_default = StrictBooleanField(required=False)


class NewKey(StrictSerializer):
    """An API key to issue."""

    name = StrictCharField(max_length=200, validators=[check_name])
    expires_at = StrictDateTimeField(required=False, allow_null=True)
    origins = OriginsField(required=False)
    records_per_minute = StrictIntegerField(required=False, min_value=1, max_value=MAX_INTEGER)


class KeyChanges(StrictSerializer):
    """What a client may change of an API key."""

    name = StrictCharField(max_length=200, validators=[check_name], required=False)
    origins = OriginsField(required=False)
    records_per_minute = StrictIntegerField(required=False, min_value=1, max_value=MAX_INTEGER)


class ProjectSerializer(serializers.ModelSerializer[Project]):
    """A project as clients see it."""

    owner = serializers.CharField(source="owner.username", read_only=True)

    class Meta:
        model = Project
        fields = ("id", "slug", "name", "owner", "is_active", "default_dataset", "created_at")


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    """A dataset as clients see it. It needs the annotation of `datasets_of`."""

    status = serializers.SerializerMethodField()
    is_default = serializers.SerializerMethodField()

    class Meta:
        model = Dataset
        fields = ("id", "slug", "name", "description", "status", "is_default", "created_at")

    def get_status(self, dataset: Any) -> str:
        """Return `active` if the dataset accepts records, otherwise the reason why it does not."""
        if dataset.is_archived:
            return "archived"
        return "active" if dataset.has_schema else "pending_schema"

    def get_is_default(self, dataset: Dataset) -> bool:
        """Return whether records without a dataset ID go to this dataset."""
        return dataset.project.default_dataset_id == dataset.pk


class SchemaVersionSerializer(serializers.ModelSerializer[SchemaVersion]):
    """A schema version as clients see it: each field in its shortest form."""

    version = serializers.IntegerField(source="number", read_only=True)
    fields_by_name = serializers.SerializerMethodField()

    class Meta:
        model = SchemaVersion
        fields = ("version", "fields_by_name", "created_at", "previous_valid_until")

    def get_fields_by_name(self, version: SchemaVersion) -> dict[str, str | dict[str, Any]]:
        """Return the declared fields by name."""
        return {field.name: field.shortest() for field in version.field_list()}

    def to_representation(self, instance: SchemaVersion) -> dict[str, Any]:
        shown = super().to_representation(instance)
        grace = {} if shown["previous_valid_until"] is None else {"previous_valid_until": shown["previous_valid_until"]}
        # A serializer cannot declare a field with the name `fields`.
        named = {"version": shown["version"], "fields": shown["fields_by_name"], "created_at": shown["created_at"]}
        return named | grace


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """An API key as clients see it, without its token. Only a browser key has origins and a limit."""

    state = serializers.SerializerMethodField()
    origins = OriginsField()
    records_per_minute = serializers.SerializerMethodField()

    class Meta:
        model = ApiKey
        fields = (
            *("id", "name", "state", "origins", "records_per_minute"),
            *("created_at", "expires_at", "revoked_at", "last_used_at"),
        )

    def get_records_per_minute(self, key: ApiKey) -> int | None:
        """Return the rate limit of a browser key: how many records its pages may send per minute."""
        return key.records_per_minute if key.is_for_browsers else None

    def get_state(self, key: ApiKey) -> str:
        """Return whether requests with the key are accepted."""
        if key.revoked_at is not None:
            return "revoked"
        return "expired" if key.expires_at is not None and key.expires_at <= clock.now() else "active"
