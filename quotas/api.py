"""`GET /api/quota/<project>`: the quota that a project's records are charged to."""

from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from datasets.api.base import ManagementView
from quotas import services
from quotas.models import UNLIMITED
from quotas.period import bounds


class QuotaView(ManagementView):
    """Show the quota of a project's owner, which all projects of this owner share."""

    answers: ClassVar[dict[str, str]] = {"GET": "Quota"}

    def get(self, request: Request, project_slug: str) -> Response:
        """Show limit and usage of this month."""
        quota = services.current(self.project.owner_id)
        _, end = bounds(quota.period)
        return Response(
            {
                "limit": quota.limit,
                "used": quota.used,
                "remaining": None if quota.limit == UNLIMITED else max(0, quota.limit - quota.used),
                "period": quota.period,
                "resets_at": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
