"""Django's description of the quotas app."""

from django.apps import AppConfig


class QuotasConfig(AppConfig):
    """Monthly limits and usage, and their section in the admin's sidebar."""

    name = "quotas"
    verbose_name = "Limits"
