"""Make a serializer class for each dataset from its fields."""

from typing import Any

from rest_framework import serializers

from tests.benchmarks.baseline.models import Dataset

_TYPES: dict[str, type["serializers.Field[Any, Any, Any, Any]"]] = {
    "string": serializers.CharField,
    "number": serializers.FloatField,
    "boolean": serializers.BooleanField,
    "timestamp": serializers.DateTimeField,
}


class RecordSerializer(serializers.Serializer[Any]):
    """Refuses fields that are not declared."""

    def to_internal_value(self, data: Any) -> Any:
        values = super().to_internal_value(data)
        extra = sorted(set(data) - set(self.fields))
        if extra:
            raise serializers.ValidationError({name: ["Extra field"] for name in extra})
        return values


def serializer_class(dataset: Dataset) -> type[RecordSerializer]:
    """Return the serializer of a dataset's records."""
    declared = {name: _TYPES[type_name]() for name, type_name in dataset.fields.items()}
    always = {"timestamp": serializers.DateTimeField(), "context": serializers.DictField()}
    return type("DatasetRecordSerializer", (RecordSerializer,), {**always, **declared})
