"""Validate with a serializer, count against the quota, and start a task."""

import uuid
from typing import Any, cast

from django.utils import timezone
from django_redis import get_redis_connection
from rest_framework import status
from rest_framework.exceptions import NotFound, Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.benchmarks.baseline.models import Dataset, Project
from tests.benchmarks.baseline.serializers import serializer_class
from tests.benchmarks.baseline.tasks import store_records


class IngestView(APIView):
    """`POST /datasets/<id>` and `POST /datasets/<id>/batch`."""

    many = False

    def post(self, request: Request, dataset_id: int) -> Response:
        project = cast(Project, request.user)
        dataset = Dataset.objects.filter(pk=dataset_id, project=project).first()
        if dataset is None:
            raise NotFound("Dataset schema not found")
        serializer = serializer_class(dataset)(data=request.data, many=self.many)
        serializer.is_valid(raise_exception=True)
        records: list[dict[str, Any]] = serializer.validated_data if self.many else [serializer.validated_data]
        charge(project, len(records))
        trace_id = request.headers.get("X-Request-Id") or uuid.uuid4().hex
        store_records.delay(dataset.pk, trace_id, records)
        answer: dict[str, Any] = {"success": True, "status": "queued"}
        if self.many:
            answer["count"] = len(records)
        return Response(answer, status=status.HTTP_202_ACCEPTED)


def charge(project: Project, count: int) -> None:
    """Count records against the month's quota. Raises Throttled."""
    client = get_redis_connection("default")
    key = f"usage:{project.pk}:{timezone.now():%Y-%m}"
    used = client.incrby(key, count)
    if project.quota != -1 and used > project.quota:
        client.decrby(key, count)
        raise Throttled(detail="Monthly dataset quota exceeded")
