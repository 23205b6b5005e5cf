"""What can be done with projects, datasets, schemas and keys. The admin and the commands call these."""

import secrets
import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from django.contrib.auth.models import AbstractBaseUser, User
from django.core.exceptions import ValidationError
from django.db.models import Model, Q
from django.utils.text import slugify

from config.common import clock
from config.common.errors import Refused
from datasets.contracts.revisions import changing
from datasets.models import ApiKey, Dataset, Project, SchemaVersion
from datasets.schemas.schema import Field, check_successor


def create_project(*, slug: str, owner: AbstractBaseUser, name: str = "") -> Project:
    """A new, active project. Raises ValidationError."""
    project = Project(slug=slug, owner=owner, name=name or slug)  # type: ignore[misc]
    project.full_clean()
    project.save()
    return project


def find_project(slug: str) -> Project:
    """The project of a slug. Raises ValidationError where there is none."""
    try:
        return Project.objects.get(slug=slug)
    except Project.DoesNotExist:
        raise ValidationError(f"There is no project “{slug}”.") from None


def save_project(project: Project, *, changed: Collection[str]) -> None:
    """Save a new project, or the changed fields of one; its next request, on any process, obeys them.

    Other fields are not written: another admin may have changed them since this project was read.
    """
    if project.pk is None:
        project.save()
        return
    with changing(project.pk):
        _lock(Project, project.pk)
        project.save(update_fields=changed)


def save_user(user: User, *, changed: Collection[str]) -> None:
    """Save the changed fields of a user. While a user is inactive, the keys of the projects it owns are refused."""
    projects = Project.objects.filter(owner=user).values_list("pk", flat=True) if "is_active" in changed else ()
    with changing(*projects):
        user.save(update_fields=changed)


def set_members(project: Project, members: Iterable[User]) -> None:
    """Say who, beside its owner, works on a project in the admin."""
    project.members.set(members)


def create_dataset(*, project: Project, name: str, fields: Sequence[Field] | None = None) -> Dataset:
    """A new dataset, with its first schema version where fields are given. Raises ValidationError."""
    # A name without a Latin letter or a digit leaves no slug.
    slug = slugify(name)[:100] or f"dataset-{secrets.token_hex(4)}"
    dataset = Dataset(project=project, name=name, slug=slug)
    dataset.full_clean(validate_constraints=False)
    if namesake := project.datasets.filter(slug=slug).first():
        raise ValidationError(f"The project has a dataset of that name already: “{namesake}”.")
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
) -> None:
    """Save a new dataset or the changed fields of one. Publish `fields` if they differ from the version in force.

    Other fields are not written: a drain or another admin may have changed them since this dataset was read.
    Raises ValidationError if the table could not follow the change.
    """
    with changing(dataset.project_id):
        if dataset.pk is None:
            dataset.save()
        else:
            _lock(Dataset, dataset.pk)
            dataset.save(update_fields=changed)
        if fields is not None:
            _publish(dataset, fields, author)


def note_table(dataset: Dataset) -> None:
    """Note that a dataset has a table, which from now on must be there."""
    Dataset.objects.filter(pk=dataset.pk).update(has_table=True)
    dataset.has_table = True


def _lock(model: type[Model], pk: int) -> None:
    """Keep other admins from changing a row until this transaction ends."""
    model._base_manager.select_for_update(no_key=True).filter(pk=pk).first()


def adopt_table(dataset: Dataset, *, is_there: bool) -> None:
    """Give a dataset from before there were table ids one. If it has a table, the caller notes it there, too.

    The database comes first: a table without an id belongs to a dataset that is known to have one, and to no other.
    """
    unbound = Dataset.objects.filter(pk=dataset.pk, table_id=None)
    has_table = {"has_table": True} if is_there else {}
    unbound.update(table_id=uuid.uuid4(), **has_table)
    dataset.refresh_from_db(fields=("table_id", "has_table"))


def bind_table(dataset: Dataset, table_id: uuid.UUID) -> None:
    """Have a dataset own the table with this id, and no other."""
    dataset.table_id, dataset.has_table = table_id, True
    Dataset.objects.filter(pk=dataset.pk).update(table_id=table_id, has_table=True)


def _publish(dataset: Dataset, fields: Sequence[Field], author: AbstractBaseUser | None) -> None:
    _lock(Dataset, dataset.pk)  # one publisher at a time
    versions = list(dataset.versions.order_by("number"))
    if versions and versions[-1].field_list() == list(fields):
        return
    check_successor([version.field_list() for version in versions], fields)
    SchemaVersion.objects.create(
        dataset=dataset,
        number=versions[-1].number + 1 if versions else 1,
        fields=[field.as_json() for field in fields],
        created_by=author,  # type: ignore[misc]
    )


def create_key(*, project: Project, name: str, expires_at: datetime | None = None) -> ApiKey:
    """A new key; `datasets.contracts.keys.issue_token` gives its token. Raises ValidationError."""
    if expires_at is not None and expires_at <= clock.now():
        raise ValidationError(f"{expires_at:%Y-%m-%d %H:%M} UTC is over: the key would never be taken.")
    key = ApiKey(project=project, name=name, expires_at=expires_at)
    key.full_clean()
    save_key(key, changed=())
    return key


def save_key(key: ApiKey, *, changed: Collection[str]) -> None:
    """Save a new key, or the changed fields of one; a revocation that came between stays."""
    with changing(key.project_id):
        if key._state.adding:
            key.save()
        else:
            _lock(ApiKey, key.pk)
            key.save(update_fields=changed)


def revoke_key(key: ApiKey) -> None:
    """From the next request on, the key is refused. Revoking again changes nothing."""
    with changing(key.project_id):
        ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=clock.now())
    key.refresh_from_db()


def newest_namesake(key: ApiKey) -> int:
    """Return the id of the newest key of the project that has this key's name."""
    namesakes = ApiKey.objects.filter(project=key.project_id, name=key.name)
    return namesakes.values_list("pk", flat=True).latest("pk")


def rotate_key(key: ApiKey, *, grace: timedelta, newest: int | None = None) -> ApiKey:
    """Return a new key in place of one that ends after `grace`, or at once if that is zero.

    The old one keeps an earlier end that it has; one that is revoked stays so. Raise Refused if there is a newer key of
    this name than `newest`, the newest that the caller has seen: a page that is sent twice must not issue two keys.
    """
    with changing(key.project_id):
        _lock(ApiKey, key.pk)
        if newest is not None and newest_namesake(key) > newest:
            raise Refused(
                f"Nothing was changed: “{key.name}” has been rotated since this page was loaded. Its successor is the "
                "newest key of this name. If you have lost the successor's token, rotate the successor."
            )
        successor = ApiKey.objects.create(project=key.project, name=key.name)
        moment = clock.now()
        old = ApiKey.objects.filter(pk=key.pk, revoked_at=None)
        if grace:
            old.filter(Q(expires_at=None) | Q(expires_at__gt=moment + grace)).update(expires_at=moment + grace)
        else:
            old.update(revoked_at=moment)
    key.refresh_from_db()
    return successor
