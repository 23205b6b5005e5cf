"""The API's URLs. Each tolerates a trailing slash."""

from django.urls import re_path

from ingest.api import schemas, views

urlpatterns = [
    re_path(r"^$", views.RootView.as_view()),
    re_path(r"^datasets/?$", views.SingleView.as_view()),
    re_path(r"^datasets/batch/?$", views.BatchView.as_view()),
    re_path(r"^datasets/(?P<dataset_id>[^/]+)/?$", views.SingleView.as_view()),
    re_path(r"^datasets/(?P<dataset_id>[^/]+)/batch/?$", views.BatchView.as_view()),
    re_path(r"^datasets/(?P<dataset_id>[^/]+)/validate/?$", views.ValidateView.as_view()),
    re_path(r"^datasets/(?P<dataset_id>[^/]+)/schema/?$", schemas.SchemaView.as_view()),
    re_path(r"^datasets/(?P<dataset_id>[^/]+)/receipts/(?P<receipt>[^/]+)/?$", views.ReceiptView.as_view()),
    re_path(r"^healthz/?$", views.HealthView.as_view()),
    re_path(r"^readyz/?$", views.ReadyView.as_view()),
    re_path(r"^openapi\.json/?$", views.OpenApiView.as_view()),
    re_path(r"^metrics/?$", views.MetricsView.as_view()),
]
