"""A list of all admin pages."""

from axes.models import AccessAttempt
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.urls import reverse

from datasets.contracts.keys import issue_token
from datasets.models import ApiKey
from datasets.tables import records
from ingest.storing.drain import drain
from quotas.models import MonthlyUsage, ThresholdEvent
from tests.browser.support.scene import Scene
from tests.conftest import Api, record

# Searches of records: one that finds records and shows both charts, and one with mistakes.
FOUND = "?field=amount&op=%3E%3D&value=1&chart=day&group=source&sort=amount"
WRONG = "?field=amount&op=%3E%3D&value=many&field=plan&op=%3D&value=pro&sent_from=yesterday&group=plan&measure=sum"


def _record(scene: Scene) -> str:
    """Return the id of the latest record. If there is no record yet, store one."""
    found = records.latest(scene.dataset, 1, max_characters=50)
    if found is None or not found.num_rows:
        Api(issue_token(scene.key), scene.dataset).one(record(country=..., source="x" * 300))
        drain(scene.dataset.pk)
        return _record(scene)
    return str(found["id"][0].as_py())


def addresses(scene: Scene) -> dict[str, str]:
    """Return the path of each page by its name."""
    dataset, group = (scene.dataset.pk,), (Group.objects.latest("pk").pk,)
    attempt = (AccessAttempt.objects.latest("pk").pk,)
    return {
        "start": reverse("admin:index"),
        "start-30-days": reverse("admin:index") + "?span=30d",
        "why": reverse("admin:ingest_diagnosis", args=(scene.project.pk,)),
        "projects": reverse("admin:datasets_project_changelist"),
        "project": reverse("admin:datasets_project_change", args=(scene.project.pk,)),
        "project-add": reverse("admin:datasets_project_add"),
        "datasets": reverse("admin:datasets_dataset_changelist"),
        "dataset": reverse("admin:datasets_dataset_change", args=dataset),
        "dataset-grace": reverse("admin:datasets_dataset_change", args=(scene.visits.pk,)),
        "dataset-grace-end": reverse("admin:datasets_dataset_end_grace", args=(scene.visits.pk,)),
        "dataset-many-types": reverse("admin:datasets_dataset_change", args=(scene.payments.pk,)),
        "dataset-add": reverse("admin:datasets_dataset_add"),
        "keys": reverse("admin:datasets_apikey_changelist"),
        "key": reverse("admin:datasets_apikey_change", args=(scene.key.pk,)),
        "key-of-pages": reverse("admin:datasets_apikey_change", args=(ApiKey.objects.get(name="shop pages").pk,)),
        "key-add": reverse("admin:datasets_apikey_add"),
        "key-rotate": reverse("admin:datasets_apikey_rotate", args=(scene.key.pk,)),
        "key-revoke": reverse("admin:datasets_apikey_revoke", args=(scene.key.pk,)),
        "tokens": reverse("admin:datasets_personalaccesstoken_changelist"),
        "token": reverse("admin:datasets_personalaccesstoken_change", args=(scene.token.pk,)),
        "token-add": reverse("admin:datasets_personalaccesstoken_add"),
        "token-revoke": reverse("admin:datasets_personalaccesstoken_revoke", args=(scene.token.pk,)),
        "records-list": reverse("admin:ingest_datasetrecords_changelist"),
        "records": reverse("admin:ingest_datasetrecords_change", args=dataset),
        "records-found": reverse("admin:ingest_datasetrecords_change", args=dataset) + FOUND,
        "records-wrong": reverse("admin:ingest_datasetrecords_change", args=dataset) + WRONG,
        "record": reverse("admin:ingest_datasetrecords_record", args=(*dataset, _record(scene))),
        "try": reverse("admin:ingest_datasetrecords_try", args=dataset),
        "quarantine": reverse("admin:ingest_quarantinedentry_changelist"),
        "quarantined": reverse("admin:ingest_quarantinedentry_change", args=(scene.entry.pk,)),
        "quarantined-edit": reverse("admin:ingest_quarantinedentry_edit", args=(scene.entry.pk,)),
        "discard": reverse("admin:ingest_quarantinedentry_discard", args=(scene.entry.pk,)),
        "refusals": reverse("admin:ingest_refusals") + f"?project={scene.project.pk}",
        "try-refused": reverse("admin:ingest_datasetrecords_try", args=dataset) + f"?refusal={scene.refusal_id}",
        "ledger": reverse("admin:ingest_ledger"),
        "changes": reverse("admin:admin_logentry_changelist"),
        "change": reverse("admin:admin_logentry_change", args=(LogEntry.objects.latest("pk").pk,)),
        "quotas": reverse("admin:quotas_quotalimit_changelist"),
        "quota": reverse("admin:quotas_quotalimit_change", args=(scene.limit_id,)),
        "quota-add": reverse("admin:quotas_quotalimit_add"),
        "quota-delete": reverse("admin:quotas_quotalimit_delete", args=(scene.limit_id,)),
        "usage": reverse("admin:quotas_monthlyusage_changelist"),
        "usage-month": reverse("admin:quotas_monthlyusage_change", args=(MonthlyUsage.objects.latest("pk").pk,)),
        "thresholds": reverse("admin:quotas_thresholdevent_changelist"),
        "threshold": reverse("admin:quotas_thresholdevent_change", args=(ThresholdEvent.objects.latest("pk").pk,)),
        "users": reverse("admin:auth_user_changelist"),
        "user": reverse("admin:auth_user_change", args=(scene.alice.pk,)),
        "user-add": reverse("admin:auth_user_add"),
        "user-delete": reverse("admin:auth_user_delete", args=(scene.alice.pk,)),
        "user-password": reverse("admin:auth_user_password_change", args=(scene.alice.pk,)),
        "groups": reverse("admin:auth_group_changelist"),
        "group": reverse("admin:auth_group_change", args=group),
        "group-add": reverse("admin:auth_group_add"),
        "group-delete": reverse("admin:auth_group_delete", args=group),
        "failed-logins": reverse("admin:axes_accessattempt_changelist"),
        "failed-login": reverse("admin:axes_accessattempt_change", args=attempt),
        "failed-login-delete": reverse("admin:axes_accessattempt_delete", args=attempt),
        "password": reverse("admin:password_change"),
        "password-changed": reverse("admin:password_change_done"),
        "history": reverse("admin:datasets_dataset_history", args=dataset),
    }
