"""Change projects, datasets, schemas and API keys. The admin, the management API and the commands use this module."""

import secrets
import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, User
from django.core.exceptions import ValidationError
from django.db.models import Model, Q
from django.utils.text import slugify

from config.common import clock
from config.common.errors import Refused
from datasets.contracts.revisions import changing
from datasets.models import ApiKey, Dataset, Installation, Project, SchemaVersion
from datasets.schemas.changes import check_successor
from datasets.schemas.fields import Field


def create_project(*, slug: str, owner: AbstractBaseUser, name: str = "") -> Project:
    """Create an active project. Raise ValidationError if the slug is invalid or taken."""
    project = Project(slug=slug, owner=owner, name=name or slug)  # type: ignore[misc]
    project.full_clean()
    project.save()
    return project


def find_project(slug: str) -> Project:
    """Return the project with a slug. Raise ValidationError if there is none."""
    try:
        return Project.objects.get(slug=slug)
    except Project.DoesNotExist:
        raise ValidationError(f"There is no project “{slug}”.") from None


def save_project(project: Project, *, changed: Collection[str]) -> None:
    """Save a new project, or the changed fields of an existing one. The change holds from the next request on.

    Fields outside `changed` are not written: another admin may have changed them since this project was read.
    """
    if project.pk is None:
        project.save()
        return
    with changing(project.pk):
        _lock(Project, project.pk)
        project.save(update_fields=changed)


def save_user(user: User, *, changed: Collection[str]) -> None:
    """Save the changed fields of a user. While a user is inactive, keys of the user's projects are refused."""
    projects = Project.objects.filter(owner=user).values_list("pk", flat=True) if "is_active" in changed else ()
    with changing(*projects):
        user.save(update_fields=changed)


def set_members(project: Project, members: Iterable[User]) -> None:
    """Set the members of a project: the users who, like its owner, work on it in the admin."""
    project.members.set(members)


def create_dataset(
    *,
    project: Project,
    name: str,
    slug: str = "",
    description: str = "",
    fields: Sequence[Field] | None = None,
) -> Dataset:
    """Create a dataset, with its first schema version if fields are given. Without a slug, make one from the name.

    Raises:
        ValidationError: The name is invalid or taken, or the project has too many open datasets.
    """
    # The slug of a name without Latin letters and digits would be empty.
    slug = slug or slugify(name)[:100] or f"dataset-{secrets.token_hex(4)}"
    dataset = Dataset(project=project, name=name, slug=slug, description=description)
    dataset.full_clean(validate_constraints=False)
    if namesake := project.datasets.filter(slug=slug).first():
        raise ValidationError(f"The project already has the dataset “{namesake}”. Choose another name.", code="unique")
    with changing(project.pk):
        dataset.save()
        if fields is not None:
            _publish(dataset, fields, None)
    return dataset


def save_dataset(
    dataset: Dataset,
    *,
    changed: Collection[str] = (),
    fields: Sequence[Field] | None = None,
    author: AbstractBaseUser | None = None,
    previous_valid_until: datetime | None = None,
) -> None:
    """Save a new dataset, or the changed fields of an existing one.

    Attributes outside `changed` are not written: a drain or another admin may have changed them since this dataset
    was read.

    Args:
        dataset: The dataset to save.
        changed: The names of the model fields to write.
        fields: The declared fields to publish if they differ from the latest schema version.
        author: The user who publishes the fields.
        previous_valid_until: If fields are published, the end of the grace period of the previous version. Until then,
            records that match that version are accepted, too. A running grace period of an older version ends.

    Raises:
        ValidationError: The new schema does not fit the columns of the table, or the grace period is wrong.
    """
    with changing(dataset.project_id):
        if dataset.pk is None:
            dataset.save()
        else:
            _lock(Dataset, dataset.pk)
            dataset.save(update_fields=changed)
        if fields is not None:
            _publish(dataset, fields, author, previous_valid_until)


def end_grace(version: SchemaVersion) -> None:
    """End the grace period of the version before `version`: its records are refused from the next request on."""
    with changing(version.dataset.project_id):
        SchemaVersion.objects.filter(pk=version.pk).update(previous_valid_until=None)
    version.refresh_from_db()


def note_table(dataset: Dataset) -> None:
    """Set `has_table`: from now on a missing table means lost storage, not a new dataset."""
    Dataset.objects.filter(pk=dataset.pk).update(has_table=True)
    dataset.has_table = True


def note_marker() -> None:
    """Set `storage_marked`: from now on, a storage without our marker file counts as not mounted."""
    Installation.objects.update(storage_marked=True)


def _lock(model: type[Model], pk: int) -> None:
    """Lock a row against changes by other admins until this transaction ends."""
    model._base_manager.select_for_update(no_key=True).filter(pk=pk).first()


def adopt_table(dataset: Dataset, *, is_there: bool) -> None:
    """Give a table ID to a dataset from a release that had no table IDs.

    The database gets the ID first, then the caller writes it to the table. So a table without an ID always belongs to
    the dataset whose `has_table` is set.

    Args:
        dataset: A dataset without a table ID.
        is_there: Whether its table exists.
    """
    unbound = Dataset.objects.filter(pk=dataset.pk, table_id=None)
    has_table = {"has_table": True} if is_there else {}
    unbound.update(table_id=uuid.uuid4(), **has_table)
    dataset.refresh_from_db(fields=("table_id", "has_table"))


def bind_table(dataset: Dataset, table_id: uuid.UUID) -> None:
    """Bind a dataset to the table with this ID. Any other table in its place is foreign."""
    dataset.table_id, dataset.has_table = table_id, True
    Dataset.objects.filter(pk=dataset.pk).update(table_id=table_id, has_table=True)


def _publish(
    dataset: Dataset,
    fields: Sequence[Field],
    author: AbstractBaseUser | None,
    previous_valid_until: datetime | None = None,
) -> None:
    """Publish fields as the next schema version, unless the latest version has the same fields."""
    _lock(Dataset, dataset.pk)  # one publisher at a time
    versions = list(dataset.versions.order_by("number"))
    if versions and versions[-1].field_list() == list(fields):
        return
    with_grace = previous_valid_until is not None
    check_successor([version.field_list() for version in versions], fields, with_grace=with_grace)
    if previous_valid_until is not None:
        if not versions:
            raise ValidationError("The first version cannot have a grace period: there is no version before it.")
        if previous_valid_until <= clock.now():
            raise ValidationError(f"{previous_valid_until:%Y-%m-%d %H:%M} UTC is in the past. Choose a later time.")
    SchemaVersion.objects.create(
        dataset=dataset,
        number=versions[-1].number + 1 if versions else 1,
        fields=[field.as_json() for field in fields],
        created_by=author,  # type: ignore[misc]
        previous_valid_until=previous_valid_until,
    )


_ONLY_BROWSER_KEYS = {"records_per_minute": "Only browser keys have this limit. Add origins of pages to a new key."}


def create_key(
    *,
    project: Project,
    name: str,
    expires_at: datetime | None = None,
    origins: Sequence[str] = (),
    records_per_minute: int | None = None,
) -> ApiKey:
    """Create an API key. `datasets.contracts.keys.issue_token` returns its token.

    Args:
        project: The project whose records the key may send.
        name: The person or program that uses the key.
        expires_at: The time when the key stops working.
        origins: If there are any, this is a browser key: pages of these origins may use it.
        records_per_minute: How many records all pages with a browser key may send together in 60 seconds.

    Raises:
        ValidationError: The name or an origin is invalid, `expires_at` is in the past, or an ordinary key has
            `records_per_minute`.
    """
    if expires_at is not None and expires_at <= clock.now():
        raise ValidationError(f"{expires_at:%Y-%m-%d %H:%M} UTC is in the past. Choose a later time.")
    if records_per_minute is not None and not origins:
        raise ValidationError(_ONLY_BROWSER_KEYS)
    rate = ApiKey.DEFAULT_RECORDS_PER_MINUTE if records_per_minute is None else records_per_minute
    key = ApiKey(project=project, name=name, expires_at=expires_at, origins=list(origins), records_per_minute=rate)
    key.full_clean()
    save_key(key, changed=())
    return key


def change_key(key: ApiKey, **changes: Any) -> None:
    """Change fields of a key: `name`; for a browser key also `origins` and `records_per_minute`.

    Raises:
        ValidationError: A value is invalid, or an ordinary key would get a limit.
    """
    if "records_per_minute" in changes and not key.is_for_browsers:
        raise ValidationError(_ONLY_BROWSER_KEYS)
    for name, value in changes.items():
        setattr(key, name, value)
    key.full_clean()
    save_key(key, changed=list(changes))


def save_key(key: ApiKey, *, changed: Collection[str]) -> None:
    """Save a new key, or the changed fields of an existing one. A key that was revoked meanwhile stays revoked."""
    with changing(key.project_id):
        if key._state.adding:
            key.save()
        else:
            _lock(ApiKey, key.pk)
            key.save(update_fields=changed)


def revoke_key(key: ApiKey) -> None:
    """Revoke a key: the next request with it is refused. A key that was revoked earlier does not change."""
    revoke_keys([key])
    key.refresh_from_db()


def revoke_keys(keys: Sequence[ApiKey]) -> None:
    """Revoke all of these keys, or none. The keys may belong to several projects. Raises ChangeRefused."""
    with changing(*{key.project_id for key in keys}):
        ApiKey.objects.filter(pk__in=[key.pk for key in keys], revoked_at=None).update(revoked_at=clock.now())


def newest_namesake(key: ApiKey) -> int:
    """Return the ID of the newest key of the project that has this key's name."""
    namesakes = ApiKey.objects.filter(project=key.project_id, name=key.name)
    return namesakes.values_list("pk", flat=True).latest("pk")


def rotate_key(key: ApiKey, *, grace: timedelta, newest: int | None = None) -> ApiKey:
    """Replace a key: return a new key with the same name, and let the old one expire.

    If the old key expires earlier, or is already revoked, it does not change.

    Args:
        key: The key to replace.
        grace: How long the old key still works. If it is zero, the old key is revoked immediately.
        newest: The ID of the newest key with this name that the admin saw. A form that is sent twice must not issue two
            keys.

    Raises:
        Refused: There is a newer key with this name than `newest`.
    """
    with changing(key.project_id):
        _lock(ApiKey, key.pk)
        if newest is not None and newest_namesake(key) > newest:
            raise Refused(
                f"Nothing was changed: “{key.name}” has been rotated since this page was loaded. Its successor is the "
                "newest key with this name. If you have lost the successor's token, rotate the successor."
            )
        key.refresh_from_db(fields=("origins", "records_per_minute"))
        successor = ApiKey.objects.create(
            project=key.project, name=key.name, origins=key.origins, records_per_minute=key.records_per_minute
        )
        moment = clock.now()
        old = ApiKey.objects.filter(pk=key.pk, revoked_at=None)
        if grace:
            old.filter(Q(expires_at=None) | Q(expires_at__gt=moment + grace)).update(expires_at=moment + grace)
        else:
            old.update(revoked_at=moment)
    key.refresh_from_db()
    return successor
