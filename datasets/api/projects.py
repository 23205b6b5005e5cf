"""`/api/projects`: the projects of the token's user."""

from rest_framework.request import Request
from rest_framework.response import Response

from datasets.access import projects_of
from datasets.api.base import ManagementView
from datasets.api.serializers import ProjectSerializer


class ProjectsView(ManagementView):
    """List the projects that the user sees."""

    serializer_class = ProjectSerializer
    plural = "projects"

    def get(self, request: Request) -> Response:
        """Return one page of projects."""
        return self.page_of(projects_of(self.user).select_related("owner"))
