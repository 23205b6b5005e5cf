"""Every page of the admin that has a face, by name."""

from django.urls import reverse

from tests.browser.scene import Scene


def addresses(scene: Scene) -> dict[str, str]:
    """Name -> path."""
    dataset = (scene.dataset.pk,)
    return {
        "start": reverse("admin:index"),
        "start-30-days": reverse("admin:index") + "?span=30d",
        "projects": reverse("admin:datasets_project_changelist"),
        "project": reverse("admin:datasets_project_change", args=(scene.project.pk,)),
        "project-add": reverse("admin:datasets_project_add"),
        "datasets": reverse("admin:datasets_dataset_changelist"),
        "dataset": reverse("admin:datasets_dataset_change", args=dataset),
        "dataset-add": reverse("admin:datasets_dataset_add"),
        "keys": reverse("admin:datasets_apikey_changelist"),
        "key": reverse("admin:datasets_apikey_change", args=(scene.key.pk,)),
        "key-add": reverse("admin:datasets_apikey_add"),
        "key-rotate": reverse("admin:datasets_apikey_rotate", args=(scene.key.pk,)),
        "key-revoke": reverse("admin:datasets_apikey_revoke", args=(scene.key.pk,)),
        "records-list": reverse("admin:ingest_datasetrecords_changelist"),
        "records": reverse("admin:ingest_datasetrecords_change", args=dataset),
        "try": reverse("admin:ingest_datasetrecords_try", args=dataset),
        "quarantine": reverse("admin:ingest_quarantinedentry_changelist"),
        "quarantined": reverse("admin:ingest_quarantinedentry_change", args=(scene.entry.pk,)),
        "discard": reverse("admin:ingest_quarantinedentry_discard", args=(scene.entry.pk,)),
        "ledger": reverse("admin:ingest_ledger"),
        "changes": reverse("admin:admin_logentry_changelist"),
        "quotas": reverse("admin:quotas_quotalimit_changelist"),
        "quota": reverse("admin:quotas_quotalimit_change", args=(scene.limit_id,)),
        "usage": reverse("admin:quotas_monthlyusage_changelist"),
        "thresholds": reverse("admin:quotas_thresholdevent_changelist"),
        "users": reverse("admin:auth_user_changelist"),
        "user": reverse("admin:auth_user_change", args=(scene.alice.pk,)),
        "groups": reverse("admin:auth_group_changelist"),
        "history": reverse("admin:datasets_dataset_history", args=dataset),
    }
