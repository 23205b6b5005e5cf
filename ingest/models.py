"""Models of ingest: the quarantine, and the users' last searches.

The quarantine keeps entries that could not be stored, each with the reason.
"""

from django.conf import settings
from django.db import models
from django.db.models import Q

from config.common.text import counted
from datasets.models import Dataset


def printable(text: str) -> str:
    """Replace NUL characters, because PostgreSQL refuses them. A reason may contain them if it quotes a body."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


class QuarantinedEntry(models.Model):
    """A queue entry (one accepted request) that could not be stored."""

    class State(models.TextChoices):
        HELD = "held", "held"
        REPLAYED = "replayed", "replayed"
        DISCARDED = "discarded", "discarded"

    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="quarantine")
    generation = models.CharField(max_length=8)
    position = models.BigIntegerField(help_text="The position in the queue: milliseconds << 20 | sequence number.")
    origin = models.CharField(max_length=40, help_text="The stream ID that the entry got when it was accepted.")
    count = models.PositiveIntegerField("records")
    body = models.BinaryField()
    format = models.CharField(max_length=1)
    schema_version_id = models.BigIntegerField()
    # Says which records were accepted with an earlier schema version than `schema_version_id`: see `formats.Earlier`.
    # Empty if all records were accepted with `schema_version_id`.
    earlier = models.TextField(blank=True, default="")
    trace_id = models.CharField(max_length=128)
    reason = models.TextField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.HELD)
    created_at = models.DateTimeField(auto_now_add=True)
    replayed_as = models.CharField(
        max_length=40, blank=True, help_text="The replay in the queue: generation, stream ID."
    )
    replayed_at = models.DateTimeField(null=True, blank=True)
    discarded_at = models.DateTimeField(null=True, blank=True, help_text="The body was deleted at this time.")

    class Meta:
        verbose_name = "quarantined entry"
        verbose_name_plural = "quarantine"
        ordering = ("-created_at",)
        # The origin is part of the constraint, because several entries can share a position: see `position_of`.
        constraints = (
            models.UniqueConstraint(fields=("dataset", "generation", "position", "origin"), name="quarantined_once"),
        )
        indexes = (models.Index(fields=("dataset",), condition=Q(state="held"), name="quarantine_held"),)

    def __str__(self) -> str:
        return f"{counted(self.count)} of {self.dataset}, {self.state}"


class QuarantineEdit(models.Model):
    """A change of a quarantined body: its author, its time, and the body before and after."""

    entry = models.ForeignKey(QuarantinedEntry, on_delete=models.CASCADE, related_name="edits")
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    made_at = models.DateTimeField(auto_now_add=True)
    before = models.BinaryField()
    after = models.BinaryField()
    version_before = models.BigIntegerField()
    version_after = models.BigIntegerField()

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"edit of entry {self.entry_id}"


class LastSearch(models.Model):
    """A user's last search in the records of a dataset. The records page offers to repeat it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="+")
    address = models.TextField(help_text="The query string of the page's address.")

    class Meta:
        constraints = (models.UniqueConstraint(fields=("user", "dataset"), name="one_last_search"),)

    def __str__(self) -> str:
        return f"last search of {self.user} in {self.dataset}"


class DatasetRecords(Dataset):
    """A dataset, for the admin's page of its records."""

    class Meta:
        proxy = True
        verbose_name = "dataset records"
        verbose_name_plural = "records"
