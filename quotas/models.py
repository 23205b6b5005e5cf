"""Limits, monthly usage and crossed thresholds in the database."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

UNLIMITED = -1
MAX_LIMIT = 2**53 - 1  # Lua's numbers are doubles: above this they are no longer exact


def limit_in_words(limit: int) -> str:
    """Return a limit in words: `unlimited`, or `1,000 records a month`."""
    return "unlimited" if limit == UNLIMITED else f"{limit:,} records a month"


class QuotaLimit(models.Model):
    """How many records a user's projects may accept per month. A user without a row has DEFAULT_QUOTA_LIMIT."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="dataset_quota")
    records_per_month = models.BigIntegerField(
        validators=[MinValueValidator(UNLIMITED), MaxValueValidator(MAX_LIMIT)],
        help_text="-1 means unlimited. 0 blocks all records.",
    )

    def __str__(self) -> str:
        return f"{self.user}: {limit_in_words(self.records_per_month)}"


class MonthlyUsage(models.Model):
    """The records charged to a user in a month, as of the last flush."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="dataset_usage")
    period = models.CharField(max_length=7, help_text="The month in UTC, as YYYY-MM.")
    used = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "monthly usage"
        ordering = ("-period", "user")
        constraints = (models.UniqueConstraint(fields=("user", "period"), name="usage_unique_in_month"),)

    def __str__(self) -> str:
        return f"{self.user}, {self.period}: {self.used:,}"


class ThresholdEvent(models.Model):
    """A user's usage reached 80, 95 or 100 % of the limit: at most one row per user, threshold and month."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="dataset_thresholds")
    period = models.CharField(max_length=7)
    percent = models.PositiveSmallIntegerField()
    used = models.BigIntegerField()
    limit = models.BigIntegerField()
    crossed_at = models.DateTimeField(auto_now_add=True)  # the time of the flush that found it

    class Meta:
        ordering = ("-crossed_at",)
        constraints = (models.UniqueConstraint(fields=("user", "period", "percent"), name="threshold_once_a_month"),)

    def __str__(self) -> str:
        return f"{self.user} reached {self.percent} % of {self.limit:,} in {self.period}"
