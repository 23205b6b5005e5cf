"""`/api/keys/<project>`: the API keys of a project."""

from typing import Any, ClassVar

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response

from datasets import services
from datasets.api.base import ManagementView
from datasets.api.changes import described, log_addition, log_change
from datasets.api.errors import ApiKeyNotFound
from datasets.api.idempotency import once
from datasets.api.serializers import ApiKeySerializer, KeyChanges, NewKey
from datasets.contracts.contract import InvalidDatasetId, read_dataset_id
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey


class KeysView(ManagementView):
    """List a project's API keys, and issue one."""

    serializer_class = ApiKeySerializer
    plural = "keys"
    secrets = ("token",)
    takes: ClassVar[dict[str, Any]] = {"POST": NewKey}
    answers: ClassVar[dict[str, str]] = {"POST": "IssuedKey"}

    def get(self, request: Request, project_slug: str) -> Response:
        """List API keys, without their tokens."""
        return self.page_of(self.project.keys.all())

    @once
    def post(self, request: Request, project_slug: str) -> Response:
        """Issue an API key. Only this answer has its token."""
        key = services.create_key(project=self.project, **self.validated(NewKey))
        log_addition(self, key, "Issued.")
        return Response(self.with_secrets(self.serialized(key)), status=201)

    def with_secrets(self, body: dict[str, Any]) -> dict[str, Any]:
        """Add the token, which is not stored."""
        return {**body, "token": issue_token(ApiKey.objects.get(pk=body["id"]))}


class KeyView(ManagementView):
    """Change and revoke an API key."""

    serializer_class = ApiKeySerializer
    takes: ClassVar[dict[str, Any]] = {"PATCH": KeyChanges}

    @transaction.atomic
    def patch(self, request: Request, project_slug: str, key_id: str) -> Response:
        """Change an API key: its name, and the origins and the limit of a browser key."""
        key = self._key(key_id)
        before, given = self.serialized(key), self.validated(KeyChanges)
        services.change_key(key, **given)
        after = self.serialized(key)
        if after != before:
            log_change(self, key, described(before, after))
        return Response(after)

    @transaction.atomic
    def delete(self, request: Request, project_slug: str, key_id: str) -> Response:
        """Revoke an API key: the next request with it is refused."""
        key = self._key(key_id)
        if key.revoked_at is None:
            services.revoke_key(key)
            log_change(self, key, "Revoked.")
        return Response(status=204)

    def _key(self, key_id: str) -> ApiKey:
        """Return a key of the project, locked until the transaction ends. Raises ApiKeyNotFound."""
        key = self.project.keys.select_for_update(no_key=True).filter(pk=_id(key_id)).first()
        if key is None:
            raise ApiKeyNotFound
        return key


def _id(text: str) -> int:
    """Return the ID of a key, which is written like a dataset's ID. Raises ApiKeyNotFound."""
    try:
        return read_dataset_id(text)
    except InvalidDatasetId:
        raise ApiKeyNotFound from None
