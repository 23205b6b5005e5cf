"""Projects, datasets, schema versions, API keys and personal access tokens.

Each change of a contract goes through `datasets.services`.
"""

import uuid

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from config.common import clock
from config.common.cluster.key_tags import is_cluster
from datasets.names import check_name
from datasets.origins import read_origins
from datasets.schemas.fields import Field
from datasets.schemas.schema import CompiledSchema, compile_schema


class Installation(models.Model):
    """One row with the ID of this database: see `datasets.installation`."""

    uuid = models.UUIDField(default=uuid.uuid4, editable=False)
    # Whether our marker file was written to the storage: see `datasets.tables.storage_check`.
    storage_marked = models.BooleanField(default=False, editable=False)

    def __str__(self) -> str:
        return str(self.uuid)


class Project(models.Model):
    """A tenant: it has datasets and API keys, and its records count against its owner's quota."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="projects")
    members = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="shared_projects",
        help_text="Staff users who can see and change the project like its owner.",
    )
    name = models.CharField(max_length=200, validators=(check_name,))
    slug = models.SlugField(max_length=100, unique=True)
    is_active = models.BooleanField(
        "active", default=True, help_text="If the project is inactive, all requests with its keys are refused."
    )
    default_dataset = models.ForeignKey(
        "Dataset",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Receives records that clients send to /datasets without a dataset ID.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raise ValidationError if the owner has changed and Redis is a cluster: the Redis keys have the owner's ID."""
        if is_cluster() and Project.objects.filter(pk=self.pk).exclude(owner=self.owner_id).exists():
            raise ValidationError(
                {"owner": "With Redis Cluster, a project keeps its owner. Create another project for the new owner."}
            )

    @property
    def accepts_keys(self) -> bool:
        """Whether requests with the project's keys are accepted: the project and its owner are active."""
        return self.is_active and self.owner.is_active

    def keys_in_force(self) -> "models.QuerySet[ApiKey]":
        """Return the keys that are neither revoked nor expired."""
        return self.keys.filter(Q(expires_at=None) | Q(expires_at__gt=clock.now()), revoked_at=None)


class Dataset(models.Model):
    """A typed collection of records with its own table."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=200, validators=(check_name,))
    slug = models.SlugField(max_length=100)
    description = models.TextField(blank=True)
    is_archived = models.BooleanField(
        "archived", default=False, help_text="An archived dataset accepts no records. Its table stays."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    # A record as JSON, for code snippets. Its values are from the sample that an admin pasted to get the fields.
    example = models.TextField(blank=True, default="", db_default="", editable=False)
    # Set before the first row is written. Without it, a storage that is not mounted would look like a new dataset.
    has_table = models.BooleanField(default=False, editable=False)
    # The table has this ID, too, as a property. If an older release made the dataset, the ID is None at first: see
    # `services.adopt_table`.
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
        """Raise ValidationError if the project has too many open datasets. Each of them costs a commit per drain."""
        if self.is_archived or self.project_id is None:
            return
        open_datasets = Dataset.objects.filter(project=self.project_id, is_archived=False)
        limit = settings.DATASETS_PER_PROJECT
        if open_datasets.count() >= limit and not open_datasets.filter(pk=self.pk).exists():
            raise ValidationError(
                f"The project already has {limit} open datasets, the maximum (DATASETS_PER_PROJECT). "
                "Archive one first, or use one dataset with a field that tells the records apart."
            )


class SchemaVersion(models.Model):
    """One version of a dataset's fields. Its fields never change: a change publishes the next version."""

    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField(help_text="The first version of a dataset is 1.")
    fields = models.JSONField(help_text='The fields in their order: [{"name", "type", "description"}, ...].')
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # The end of the grace period of the previous version. It counts only while this version is the latest.
    previous_valid_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Until this time, records of the version before are accepted, too. If empty, they are refused.",
    )

    class Meta:
        ordering = ("dataset", "-number")
        constraints = (models.UniqueConstraint(fields=("dataset", "number"), name="schema_version_number_unique"),)

    def __str__(self) -> str:
        return f"version {self.number}"

    def field_list(self) -> list[Field]:
        """Return the fields in their order."""
        return [Field.from_json(row) for row in self.fields]

    def previous(self) -> "SchemaVersion | None":
        """Return the version directly before this one, or None for the first version."""
        return SchemaVersion.objects.filter(dataset=self.dataset_id, number=self.number - 1).first()

    def compiled(self) -> CompiledSchema:
        """Return the schema that validates and decodes records of this version."""
        return compile_schema(self.pk, tuple(self.field_list()))


class ApiKey(models.Model):
    """An API key that was issued. The token itself is not stored: see `datasets.contracts.keys`.

    A key with origins is a browser key: it stands in web pages, where everybody can read it.
    """

    DEFAULT_RECORDS_PER_MINUTE = 6000

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="keys")
    name = models.CharField(
        max_length=200, validators=(check_name,), help_text="The person or program that uses this key."
    )
    # The token's `jti` claim. It is random, so the signing secret alone is not enough to forge a token.
    token_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    # As browsers write them in the header `Origin`: see `datasets.origins`.
    origins = models.JSONField(
        "allowed origins",
        default=list,
        db_default=[],
        blank=True,
        help_text="The origins of the pages that may use the key, like https://shop.example.com. One per line.",
    )
    records_per_minute = models.PositiveIntegerField(
        default=DEFAULT_RECORDS_PER_MINUTE,
        db_default=DEFAULT_RECORDS_PER_MINUTE,
        validators=(MinValueValidator(1),),
        help_text="All pages together may send this number of records in any 60 seconds. More are refused with 429.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="If empty, the key does not expire.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at",)
        indexes = (models.Index(fields=("project",), condition=Q(revoked_at=None), name="apikey_live"),)

    def __str__(self) -> str:
        return self.name

    @property
    def is_for_browsers(self) -> bool:
        """Whether it is a browser key. This never changes: a key that was public must not become an ordinary one."""
        return bool(self.origins)

    def clean(self) -> None:
        """Write the origins as browsers write them.

        Raise ValidationError if an origin is wrong, or if an ordinary key would become a browser key or the reverse.
        """
        try:
            self.origins = read_origins(self.origins)
        except ValidationError as wrong:
            raise ValidationError({"origins": wrong.messages}) from None
        if self._state.adding:
            return
        was_for_browsers = ApiKey.objects.get(pk=self.pk).is_for_browsers
        if was_for_browsers and not self.is_for_browsers:
            raise ValidationError({"origins": "A browser key needs an origin. To stop its use, revoke it."})
        if self.is_for_browsers and not was_for_browsers:
            raise ValidationError({"origins": "An ordinary key cannot become a browser key. Issue a new key."})


class PersonalAccessToken(models.Model):
    """A user's token for the management API: see `datasets.personal_tokens`. Its scope limits what it may do."""

    class Scope(models.TextChoices):
        """What a token may do with the projects of its user."""

        WRITE = "write", "Read and write"
        READ = "read", "Read only"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="personal_tokens")
    name = models.CharField(
        max_length=200, validators=(check_name,), help_text="The person or program that uses this token."
    )
    scope = models.CharField(max_length=5, choices=Scope, default=Scope.WRITE)
    # SHA-256 of the token, in hex. A slow hash is not necessary, because 256 random bits cannot be guessed.
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="If empty, the token does not expire.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return self.name


class ManagementAnswer(models.Model):
    """The saved answer to a request of the management API. A repetition with its Idempotency-Key gets it again."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    # SHA-256 of the path and the body: another request must not get this answer.
    digest = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    # JSON as text: PostgreSQL's JSON would come back with its members in another order.
    body = models.TextField(help_text="The body of the answer, without secrets.")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("user", "key"), name="management_answer_unique"),)

    def __str__(self) -> str:
        return self.key
