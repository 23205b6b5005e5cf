"""Bodies in quarantine are explained, edited, replayed and exported. Their history is kept, and the ledger adds up."""

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from datasets import services
from datasets.models import Dataset
from datasets.schemas.fields import Field
from ingest.models import QuarantinedEntry, QuarantineEdit
from ingest.storing import editing, ledger, quarantine
from ingest.storing.drain import drain
from tests.conftest import FIELDS, record
from tests.support.admin.forms import forms_of
from tests.support.entries import enqueue, names_in_table
from tests.support.sending.at_once import at_once

BAD = json.dumps(record(amount="12.5", country="RO"))
GOOD = json.dumps(record(amount=12.5, country="RO"))


def held(dataset: Dataset, body: str = BAD, *, form: bytes = b"o", count: int = 1) -> QuarantinedEntry:
    enqueue(dataset, body.encode(), form=form, count=count)
    drain(dataset.pk)
    return QuarantinedEntry.objects.latest("pk")


@pytest.fixture
def client(owner: User) -> Client:
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))
    return client


def adds_up(dataset: Dataset) -> tuple[int, int, int]:
    balance = ledger.balance(dataset)
    assert balance.adds_up, balance
    return balance.stored, balance.queued, balance.quarantined


def test_entry_is_edited_and_replayed_in_the_admin(client: Client, dataset: Dataset) -> None:
    entry = held(dataset)
    shown = client.get(reverse("admin:ingest_quarantinedentry_change", args=(entry.pk,))).content.decode()
    assert "Invalid number field: amount (expected number, received string)." in shown
    path = reverse("admin:ingest_quarantinedentry_edit", args=(entry.pk,))
    (form,) = [form for form in forms_of(client.get(path).content.decode()) if "body" in form.visible]
    assert json.loads(form.values["body"][0]) == json.loads(BAD)
    refused = client.post(path, form.filled(body=BAD.replace("12.5", "13.5")))
    assert "Invalid number field: amount" in refused.content.decode()
    assert "13.5" in refused.content.decode()  # the form keeps the typed text
    assert QuarantineEdit.objects.count() == 0
    answer = client.post(path, form.filled(body=GOOD, replay="yes"), follow=True)
    assert "1 record is back in the queue" in answer.content.decode()
    assert "Edits of the body" in answer.content.decode()
    assert adds_up(dataset) == (0, 1, 0)
    drain(dataset.pk)
    assert adds_up(dataset) == (1, 0, 0)
    assert names_in_table(dataset) == ["RO"]
    edit = QuarantineEdit.objects.get()
    assert (bytes(edit.before), bytes(edit.after)) == (BAD.encode(), GOOD.encode())
    assert str(edit.author) == "owner"
    assert LogEntry.objects.filter(change_message__startswith="Body edited and checked against version 1").exists()


def test_second_of_two_edits_is_saved_after_its_author_has_seen_the_first(
    client: Client, owner: User, dataset: Dataset
) -> None:
    entry = held(dataset)
    path = reverse("admin:ingest_quarantinedentry_edit", args=(entry.pk,))
    (form,) = [form for form in forms_of(client.get(path).content.decode()) if "body" in form.visible]
    editing.edit(entry, GOOD.replace("12.5", "77"), editing.versions(entry)[0][0], owner, seen=0)
    answer = client.post(path, form.filled(body=GOOD)).content.decode()
    assert "edited meanwhile by owner" in answer
    assert "&quot;amount&quot;: 77" in answer  # the current body
    assert reverse("admin:ingest_quarantinedentry_change", args=(entry.pk,)) + "#edits-title" in answer
    (form,) = [form for form in forms_of(answer) if "body" in form.visible]
    assert form.values["body"] == [GOOD]
    assert client.post(path, form.filled()).status_code == 302
    entry.refresh_from_db()
    assert bytes(entry.body) == GOOD.encode()


@pytest.mark.parametrize("body", [f"[{GOOD}]", f"[{GOOD},{GOOD},{GOOD}]", "[]", "", "{", GOOD])
def test_edit_cannot_change_the_number_of_records(owner: User, dataset: Dataset, body: str) -> None:
    entry = held(dataset, f"[{BAD},{BAD}]", form=b"a", count=2)
    ((version, _),) = editing.versions(entry)
    with pytest.raises(editing.EditRefused):
        editing.edit(entry, body, version, owner, seen=0)
    entry.refresh_from_db()
    assert bytes(entry.body) == f"[{BAD},{BAD}]".encode()
    assert adds_up(dataset) == (0, 0, 2)


@pytest.mark.parametrize(("form", "joined"), [(b"a", f"[{GOOD},{GOOD}]"), (b"l", f"{GOOD}\n{GOOD}\n")])
def test_batches_of_both_formats_can_be_edited(owner: User, dataset: Dataset, form: bytes, joined: str) -> None:
    entry = held(dataset, joined.replace("12.5", '"x"'), form=form, count=2)
    assert len(editing.explain(entry)) == 2
    assert editing.explain(entry)[1].startswith("Record 2: Invalid number field: amount")
    editing.edit(entry, joined.replace("\n", "\r\n"), editing.versions(entry)[0][0], owner, seen=0)
    assert editing.explain(entry) == ["The body matches the schema, so the cause may be gone. Replay the entry."]
    assert quarantine.replay(entry)
    drain(dataset.pk)
    assert adds_up(dataset) == (2, 0, 0)


def test_body_is_checked_against_the_chosen_version(owner: User, dataset: Dataset) -> None:
    entry = held(dataset)
    services.save_dataset(dataset, fields=[*FIELDS, Field("source", "string")])
    (accepted, label), (latest, now) = editing.versions(entry)
    assert (label, now) == ("version 1 (this entry's version)", "version 2 (in force now)")
    with pytest.raises(editing.EditRefused, match="Missing field: source"):
        editing.edit(entry, GOOD, latest, owner, seen=0)
    editing.edit(entry, GOOD, accepted, owner, seen=0)
    editing.edit(entry, json.dumps(record(source="web")), latest, owner, seen=1)
    assert quarantine.replay(entry)
    drain(dataset.pk)
    assert adds_up(dataset) == (1, 0, 0)


def test_edit_is_refused_after_another_edit_or_a_replay(owner: User, dataset: Dataset) -> None:
    entry = held(dataset)
    ((version, _),) = editing.versions(entry)
    editing.edit(entry, GOOD, version, owner, seen=0)
    with pytest.raises(editing.EditRefused, match="edited meanwhile by owner"):
        editing.edit(entry, GOOD, version, owner, seen=0)
    quarantine.replay(QuarantinedEntry.objects.get(pk=entry.pk))
    with pytest.raises(editing.EditRefused, match="replayed or discarded"):
        editing.edit(entry, GOOD, version, owner, seen=1)


def test_concurrent_edit_and_replay_store_what_the_history_says(owner: User, dataset: Dataset) -> None:
    for number in range(10):
        entry = held(dataset, BAD)
        ((version, _),) = editing.versions(entry)

        def edit(entry: QuarantinedEntry = entry, version: object = version) -> bool:
            try:
                editing.edit(entry, GOOD, version, owner, seen=0)  # type: ignore[arg-type]
            except editing.EditRefused:
                return False
            return True

        edited, _ = at_once([edit, lambda pk=entry.pk: quarantine.replay(QuarantinedEntry.objects.get(pk=pk))])  # type: ignore[misc]
        drain(dataset.pk)
        stored, queued, quarantined = adds_up(dataset)
        assert queued == 0
        again = QuarantinedEntry.objects.filter(state=QuarantinedEntry.State.HELD)
        assert again.count() == (0 if edited else 1), number
        for each in again:
            quarantine.discard(each)
        assert stored + quarantined == number + 1


def test_body_is_exported_and_discarded_with_its_history(client: Client, owner: User, dataset: Dataset) -> None:
    entry = held(dataset)
    answer = client.get(reverse("admin:ingest_quarantinedentry_body", args=(entry.pk,)))
    assert answer.content == BAD.encode()
    assert "no-store" in answer.headers["Cache-Control"]
    assert f'filename="quarantine-{entry.pk}.json"' in answer.headers["Content-Disposition"]
    editing.edit(entry, GOOD, editing.versions(entry)[0][0], owner, seen=0)
    quarantine.discard(entry)
    edit = QuarantineEdit.objects.get()
    assert (bytes(edit.before), bytes(edit.after), bytes(entry.body)) == (b"", b"", b"")
    assert adds_up(dataset) == (0, 0, 1)
