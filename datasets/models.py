"""Projects, datasets, schema versions and API keys. Written through `datasets.services` only."""

import uuid

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from config.common import clock
from datasets.schemas.schema import CompiledSchema, Field, compile_schema


class Installation(models.Model):
    """The one row that tells this database from others: see `datasets.installation`."""

    uuid = models.UUIDField(default=uuid.uuid4, editable=False)

    def __str__(self) -> str:
        return str(self.uuid)


class Project(models.Model):
    """A tenant: datasets, keys, and the owner whose quota its records count against."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="projects")
    members = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="shared_projects",
        help_text="Staff who see and change the project as its owner does.",
    )
    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=100, unique=True)
    is_active = models.BooleanField(
        "active", default=True, help_text="While inactive, every request with one of the project's keys is refused."
    )
    default_dataset = models.ForeignKey(
        "Dataset",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Receives what is sent to /datasets without a dataset id.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def accepts_keys(self) -> bool:
        """Whether its keys are taken: the project and its owner are active."""
        return self.is_active and self.owner.is_active

    def keys_in_force(self) -> "models.QuerySet[ApiKey]":
        """Its keys that are neither revoked nor expired."""
        return self.keys.filter(Q(expires_at=None) | Q(expires_at__gt=clock.now()), revoked_at=None)


class Dataset(models.Model):
    """A typed collection of records, stored in a table of its own."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=100)
    description = models.TextField(blank=True)
    is_archived = models.BooleanField(
        "archived", default=False, help_text="An archived dataset accepts no more records; its table stays."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    # From before its first row on. A storage that is not mounted looks like one in which no table was ever made.
    has_table = models.BooleanField(default=False, editable=False)
    # Also a property of the table. None: from before there were any, and not drained since. See `services.adopt_table`.
    table_id = models.UUIDField(default=uuid.uuid4, null=True, editable=False)

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("project", "slug"), name="dataset_slug_unique_in_project"),)

    def __str__(self) -> str:
        return f"{self.name} (archived)" if self.is_archived else self.name

    def latest_version(self) -> "SchemaVersion | None":
        """Return the schema version in force, or None if no schema was published yet."""
        return self.versions.order_by("-number").first()

    def clean(self) -> None:
        """Raise ValidationError if this would be one open dataset too many: each one costs a commit per drain."""
        if self.is_archived or self.project_id is None:
            return
        is_open = Dataset.objects.filter(project=self.project_id, is_archived=False)
        most = settings.DATASETS_PER_PROJECT
        if is_open.count() >= most and not is_open.filter(pk=self.pk).exists():
            raise ValidationError(
                f"The project has {most} datasets that accept records, as many as it may have "
                "(DATASETS_PER_PROJECT). Archive one first, or tell datasets apart by a field."
            )


class SchemaVersion(models.Model):
    """The fields of a dataset at one time. Never changed: a change publishes the next version."""

    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField(help_text="1 is the dataset's first.")
    fields = models.JSONField(help_text='[{"name", "type", "description"}, ...], in order')
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ("dataset", "-number")
        constraints = (models.UniqueConstraint(fields=("dataset", "number"), name="schema_version_number_unique"),)

    def __str__(self) -> str:
        return f"version {self.number}"

    def field_list(self) -> list[Field]:
        """Return the fields in their order."""
        return [Field(**row) for row in self.fields]

    def compiled(self) -> CompiledSchema:
        """Return the schema that validates and decodes records of this version."""
        return compile_schema(self.pk, tuple(self.field_list()))


class ApiKey(models.Model):
    """What is needed to recognize and revoke a key. The token itself is not kept."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="keys")
    name = models.CharField(max_length=200, help_text="Who or what uses it.")
    # The token's `jti` claim; random, so that even who has the signing secret cannot name a key that was not issued.
    token_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: it does not expire.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at",)
        indexes = (models.Index(fields=("project",), condition=Q(revoked_at=None), name="apikey_live"),)

    def __str__(self) -> str:
        return self.name
