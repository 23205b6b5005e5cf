from django.apps import AppConfig


class QuotasConfig(AppConfig):
    """How many records a user may send a month, and how many were sent."""

    name = "quotas"
    verbose_name = "Limits"  # as in the admin's sidebar
