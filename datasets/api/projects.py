"""`/api/projects`: the projects of the token's user."""

from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from datasets import services
from datasets.access import may_create_projects, projects_of
from datasets.api.base import ManagementView
from datasets.api.changes import log_addition
from datasets.api.errors import NotAllowed
from datasets.api.idempotency import once
from datasets.api.serializers import NewProject, ProjectSerializer


class ProjectsView(ManagementView):
    """List the projects that the user sees, and create one."""

    serializer_class = ProjectSerializer
    plural = "projects"
    takes: ClassVar[dict[str, Any]] = {"POST": NewProject}

    def get(self, request: Request) -> Response:
        """List projects."""
        return self.page_of(projects_of(self.user).select_related("owner"))

    @once
    def post(self, request: Request) -> Response:
        """Create a project. Its owner is the token's user."""
        if not may_create_projects(self.user):
            raise NotAllowed({"detail": "You need the permission to add projects. Ask a superuser for it."})
        project = services.create_project(owner=self.user, **self.validated(NewProject))
        log_addition(self, project)
        return Response(self.serialized(project), status=201)
