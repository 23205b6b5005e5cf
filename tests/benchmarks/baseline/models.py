"""Projects with keys, datasets with a schema, and one table of records."""

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models


class Project(models.Model):
    """A tenant."""

    objects: "models.Manager[Project]" = models.Manager()

    name = models.CharField(max_length=200)
    quota = models.BigIntegerField(default=-1)  # records a month; -1 is unlimited
    is_active = models.BooleanField(default=True)

    class Meta:
        app_label = "baseline"

    def __str__(self) -> str:
        return self.name

    @property
    def is_authenticated(self) -> bool:
        """DRF reads this property of the sender of a request."""
        return True


class ApiKey(models.Model):
    """An API key. Only its digest is kept."""

    objects: "models.Manager[ApiKey]" = models.Manager()

    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    digest = models.CharField(max_length=64, unique=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "baseline"

    def __str__(self) -> str:
        return self.digest[:8]


class Dataset(models.Model):
    """A dataset, with its fields by name."""

    objects: "models.Manager[Dataset]" = models.Manager()

    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    name = models.CharField(max_length=200)
    fields = models.JSONField()

    class Meta:
        app_label = "baseline"

    def __str__(self) -> str:
        return self.name


class Record(models.Model):
    """A stored record."""

    objects: "models.Manager[Record]" = models.Manager()

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE)
    timestamp = models.DateTimeField(db_index=True)
    ingested_at = models.DateTimeField(auto_now_add=True)
    trace_id = models.CharField(max_length=128)
    context = models.JSONField()
    data = models.JSONField(encoder=DjangoJSONEncoder)

    class Meta:
        app_label = "baseline"

    def __str__(self) -> str:
        return str(self.pk)
