"""The baseline's URLs."""

from django.urls import path

from tests.benchmarks.baseline.views import IngestView

urlpatterns = [
    path("datasets/<int:dataset_id>", IngestView.as_view()),
    path("datasets/<int:dataset_id>/batch", IngestView.as_view(many=True)),
]
