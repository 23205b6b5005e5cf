"""The paths of the management API that this app serves, below /api/. Each path may end with a slash."""

from django.urls import re_path

from datasets.api.datasets import DatasetsView, DatasetView
from datasets.api.keys import KeysView, KeyView
from datasets.api.projects import ProjectsView
from datasets.api.queries.views import QueryView
from datasets.api.schemas import SchemaVersionsView, SchemaView

_PROJECT = "(?P<project_slug>[^/]+)"
_DATASET = f"{_PROJECT}/(?P<dataset_id>[^/]+)"

urlpatterns = [
    re_path(r"^projects/?$", ProjectsView.as_view()),
    re_path(rf"^datasets/{_PROJECT}/?$", DatasetsView.as_view()),
    re_path(rf"^datasets/{_PROJECT}/schema/?$", SchemaView.as_view()),
    re_path(rf"^datasets/{_PROJECT}/query/?$", QueryView.as_view()),
    re_path(rf"^datasets/{_DATASET}/?$", DatasetView.as_view()),
    re_path(rf"^datasets/{_DATASET}/schema/?$", SchemaView.as_view()),
    re_path(rf"^datasets/{_DATASET}/schema/versions/?$", SchemaVersionsView.as_view()),
    re_path(rf"^datasets/{_DATASET}/query/?$", QueryView.as_view()),
    re_path(rf"^keys/{_PROJECT}/?$", KeysView.as_view()),
    re_path(rf"^keys/{_PROJECT}/(?P<key_id>[^/]+)/?$", KeyView.as_view()),
]
