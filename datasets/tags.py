"""Return the tag for the Redis keys of a project and its datasets. The tag is the ID of the project's owner.

See `config.common.cluster.key_tags`. In a cluster, the owner of a project never changes (`Project.clean`). So each
process keeps the owners that it has looked up.
"""

from collections.abc import Iterable

from django.apps import apps

from config.common.cluster.key_tags import NO_TAG, is_cluster

_of_projects: dict[int, int] = {}
_of_datasets: dict[int, int] = {}


def of_project(project_id: int) -> int:
    """Return the tag of a project's keys, or NO_TAG if Redis is not a cluster or the project does not exist."""
    if not is_cluster():
        return NO_TAG
    return _known(_of_projects, project_id, "Project", "owner_id")


def of_dataset(dataset_id: int) -> int:
    """Return the tag of a dataset's keys, or NO_TAG if Redis is not a cluster or the dataset does not exist."""
    if not is_cluster():
        return NO_TAG
    return _known(_of_datasets, dataset_id, "Dataset", "project__owner_id")


def is_known(project_id: int) -> bool:
    """Return whether `of_project` answers without the database."""
    return not is_cluster() or project_id in _of_projects


def note(project_id: int, dataset_id: int, owner_id: int) -> None:
    """Remember the owner of a project and of one of its datasets, for callers that must not wait for the database."""
    _of_projects[project_id] = owner_id
    _of_datasets[dataset_id] = owner_id


def in_use() -> list[int]:
    """Return all tags that keys may have: those of the users who own projects. Without a cluster, only NO_TAG."""
    if not is_cluster():
        return [NO_TAG]
    return list(apps.get_model("datasets", "Project").objects.order_by().values_list("owner_id", flat=True).distinct())


def by_tag(dataset_ids: Iterable[int]) -> dict[int, list[int]]:
    """Return datasets by the tag of their keys."""
    found: dict[int, list[int]] = {}
    for dataset_id in dataset_ids:
        found.setdefault(of_dataset(dataset_id), []).append(dataset_id)
    return found


def _known(tags: dict[int, int], pk: int, model: str, owner: str) -> int:
    if pk not in tags:
        found = apps.get_model("datasets", model).objects.filter(pk=pk).values_list(owner, flat=True).first()
        if found is None:
            return NO_TAG
        tags[pk] = found
    return tags[pk]
