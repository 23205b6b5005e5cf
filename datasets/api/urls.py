"""The paths of the management API, below /api/. Each tolerates a trailing slash."""

from django.urls import re_path

from datasets.api.projects import ProjectsView

urlpatterns = [
    re_path(r"^projects/?$", ProjectsView.as_view()),
]
