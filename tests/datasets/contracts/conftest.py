"""Another tenant's project."""

import pytest
from django.contrib.auth.models import User

from datasets import services
from datasets.models import Project


@pytest.fixture
def stranger(owner: User) -> Project:
    """A project of another tenant."""
    return services.create_project(slug="stranger", owner=User.objects.create_user("stranger"))
