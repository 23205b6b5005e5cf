"""How the management API reads and shows projects, datasets and keys. Nothing is converted, as on ingest."""

from typing import Any

from rest_framework import serializers

from datasets.models import Project


class Text(serializers.CharField):
    """A text; a number is not one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class ProjectSerializer(serializers.ModelSerializer[Project]):
    """A project as clients see it."""

    owner = serializers.CharField(source="owner.username", read_only=True)

    class Meta:
        model = Project
        fields = ("id", "slug", "name", "owner", "is_active", "default_dataset", "created_at")
