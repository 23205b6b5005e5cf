from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """What the apps share; here so that Django finds the `up` command and the system checks."""

    name = "config"

    def ready(self) -> None:
        from config import checks  # noqa: F401, PLC0415  # registers itself; models must be loaded first
