"""What a dataset's owner does in the admin, from the first dataset to the first invalid record."""

import json
import re
import shlex
import subprocess
import sys

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Page, expect

from config.common import clock
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset
from datasets.tables import records
from ingest.models import QuarantinedEntry
from tests.browser.conftest import LogIn
from tests.browser.support.site import wait_until
from tests.browser.test_accessibility import findings
from tests.support.entries import enqueue
from tests.support.tools import executable

SAMPLE = '{"timestamp": "2026-06-10T10:58:00Z", "context": {}, "sku": "A1", "price": 9.5, "paid": true}'


def curl(line: str, *more: str) -> tuple[int, dict[str, object]]:
    """Run a curl command as the page shows it. Return the status and the answer."""
    words = shlex.split(line.replace("\\\n", " "))
    done = subprocess.run([*words, *more, "-sS", "-w", "\n%{http_code}"], capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def define_orders(page: Page) -> Dataset:
    """Define a dataset in an empty installation, by following what the pages say."""
    page.get_by_role("link", name="Create your first project").click()
    page.fill("[name=name]", "Shop")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page).to_have_url(re.compile("/datasets/dataset/add/"))
    page.fill("[name=name]", "Orders")
    page.fill("#sample", SAMPLE)
    page.click("#sample-infer")
    expect(page.locator("#sample-notes")).to_contain_text("3 fields added")
    assert [name.input_value() for name in page.locator(".ours-name").all()] == ["sku", "price", "paid"]
    assert [kind.input_value() for kind in page.locator(".ours-type").all()] == ["string", "number", "boolean"]
    expect(page.locator("#schema-preview")).to_contain_text("Saving publishes version 1")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    return Dataset.objects.get(name="Orders")


def issue_key(page: Page) -> str:
    """Issue a key on the page that follows a new dataset. Return the curl command copied there."""
    expect(page).to_have_url(re.compile("/datasets/apikey/add/"))
    page.fill("[name=name]", "till")
    expect(page.locator("[name=ends_on]")).to_be_hidden()
    page.select_option("[name=ends]", "30")
    page.get_by_role("button", name="Save", exact=True).click()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the token").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    token: str = page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("button", name="Copy “curl”").click()
    expect(page.get_by_role("button", name="Copied")).to_have_count(2)
    line: str = page.evaluate("navigator.clipboard.readText()")
    assert token == page.locator("#token").input_value()
    assert token in line
    assert findings(page) == []
    return line


def figure(page: Page, name: str) -> str:
    return (page.locator(f"[data-figure={name}]").first.text_content() or "").strip()


def test_from_the_first_dataset_to_a_replay(log_in: LogIn, person: User) -> None:
    person.user_permissions.add(Permission.objects.get(codename="add_project"))
    page = log_in("alice")

    # Create a project, define a dataset from a sample, issue a key, and run the curl command.
    dataset = define_orders(page)
    line = issue_key(page)

    # The page shows the record without a reload.
    page.get_by_role("link", name="I've sent it – show me the record").click()
    expect(page.get_by_text("No record is stored yet")).to_be_visible()
    assert curl(line) == (202, {"success": True, "status": "queued"})
    expect(page.locator("#records")).to_contain_text("9.5", timeout=30_000)
    expect(page.locator("#records")).to_contain_text("true")

    # No page shows the token again.
    token = line.partition("Bearer ")[2].partition("'")[0]
    key = ApiKey.objects.get(name="till")
    for path in ("/admin/datasets/apikey/", f"/admin/datasets/apikey/{key.pk}/change/"):
        page.goto(path)
        assert token not in page.content()

    page.goto("/admin/")
    assert figure(page, "today") == "1"
    assert curl(line)[0] == 202

    # The start page and the list of records show the new record without a reload.
    expect(page.locator("[data-figure=today]")).to_have_text("2", timeout=30_000)
    expect(page.locator("svg[data-total='2']")).to_be_visible(timeout=30_000)
    expect(page.locator("[data-ledger]")).to_contain_text("ledger adds up", timeout=30_000)
    page.get_by_role("link", name="Records", exact=True).last.click()
    page.get_by_role("link", name="Orders").click()
    wait_until(lambda: page.reload() is not None and page.locator("#records tbody tr").count() == 2)

    # Write an invalid record into Try it, and read why it is invalid.
    page.get_by_role("link", name="Try it").click()
    body = page.locator("#body").input_value()
    page.fill("#body", body.replace("9.5", '"9.5"').replace('"paid": true', '"payed": true'))
    page.click("#ask")
    expect(page.locator("#try-answer [data-status='400']")).to_be_visible()
    expect(page.locator("#try-answer .ours-wrong").nth(0)).to_contain_text("expected number, received string")
    expect(page.locator("#try-answer .ours-wrong").nth(1)).to_contain_text("Extra field: payed")
    expect(page.locator("#try-answer .ours-wrong").nth(2)).to_contain_text("Missing field: paid")
    shown = json.loads(page.locator("#answer-body").text_content() or "")
    assert shown["error"] == "Extra field: payed"

    # Correct the body, and send it.
    page.fill("#body", body)
    page.click("#send")
    expect(page.locator("#try-answer [data-status='202']")).to_be_visible()
    page.get_by_role("link", name="Where are these records now?").click()
    wait_until(lambda: page.reload() is not None and "stored" in (page.locator("#receipt-status").text_content() or ""))

    # Change the schema. The page says what the change means. After the change, the old command is refused.
    page.get_by_role("link", name="Definition").click()
    page.click("#schema-add")
    page.keyboard.type("source")
    expect(page.locator("#schema-preview")).to_contain_text("Older rows are null")
    expect(page.locator("#schema-preview")).to_contain_text("Saving publishes version 2")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    status, answer = curl(line)
    assert (status, answer["error"]) == (400, "Missing field: source")
    assert "added source" in LogEntry.objects.filter(object_repr="Orders").latest("pk").change_message

    # The start page shows the refusal.
    page.goto("/admin/")
    expect(page.get_by_role("row", name=re.compile("missing_field 1"))).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="30 days").click()
    expect(page.locator("svg[data-total='3']")).to_be_visible()
    expect(page.locator("svg[data-total='3'] g")).to_have_count(30)
    page.get_by_role("link", name="missing_field").click()
    expect(page.locator("#findings")).to_contain_text("A record lacks a required field of the schema.")
    page.go_back()

    # A record that cannot be stored is in quarantine, and can be replayed.
    enqueue(dataset, b'{"timestamp": "2026-06-10T10:58:00Z", "context": {}, "sku": 1}')
    expect(page.locator("[data-figure=quarantined]")).to_have_text("1", timeout=30_000)
    page.locator("[data-figure=quarantined] a").click()
    page.get_by_role("link", name=str(QuarantinedEntry.objects.get().pk), exact=True).click()
    expect(page.get_by_text("the body does not match its schema version")).to_be_visible()
    expect(page.locator("pre.ours-box")).to_contain_text('"sku": 1')
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("1 record is back in the queue")).to_be_visible()
    wait_until(lambda: QuarantinedEntry.objects.count() == 2)
    page.reload()
    expect(page.get_by_text("replayed, and back in quarantine as")).to_be_visible()

    # Revoke the key: then the same command is refused.
    page.goto("/admin/datasets/apikey/")
    page.get_by_role("link", name="till").click()
    page.get_by_role("link", name="Revoke…").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Revoked: “till”")).to_be_visible()
    assert curl(line)[0] == 401


def test_shown_commands_run_as_pasted(log_in: LogIn, scene: object) -> None:
    dataset, key = Dataset.objects.get(name="Orders"), ApiKey.objects.get(name="checkout service")
    page = log_in("alice")
    page.goto(f"/admin/datasets/dataset/{dataset.pk}/change/")

    def line(client: str) -> str:
        shown = page.locator(f"#snippet-{client}").text_content() or ""
        return shown.replace("YOUR_API_KEY", issue_token(key))

    accepted = '202 {"success":true,"status":"queued"}'
    shell = subprocess.run(["bash", "-c", line("curl") + " -sS"], capture_output=True, text=True, check=True)
    assert shell.stdout == '{"success":true,"status":"queued"}'
    python = subprocess.run([sys.executable, "-I", "-"], input=line("python"), capture_output=True, text=True)
    assert python.stdout.strip() == accepted, python.stderr
    node = subprocess.run([executable("node"), "-e", line("node")], capture_output=True, text=True, check=True)
    assert node.stdout.strip() == accepted
    refused = line("python").replace("True", "'yes'")
    python = subprocess.run([sys.executable, "-I", "-"], input=refused, capture_output=True, text=True, check=True)
    assert python.stdout.startswith('400 {"error":"Invalid boolean field: active"')
    wait_until(lambda: records.count(dataset) == 3)


def test_changed_type_is_refused_at_its_field(log_in: LogIn, scene: object) -> None:
    dataset = Dataset.objects.get(name="Orders")
    page = log_in("alice")
    page.goto(f"/admin/datasets/dataset/{dataset.pk}/change/")
    history = page.get_by_role("region", name="Published versions")
    expect(history.locator("li details").nth(0)).to_contain_text(re.compile(r"Version 3\s+current[\s\S]*admin"))
    expect(history.locator("li details").nth(0)).to_contain_text(re.compile(r"added\s+source[\s\S]*removed\s+country"))
    expect(history.locator("li details").nth(1)).to_contain_text(re.compile(r"Version 2[\s\S]*alice"))
    page.get_by_text("What each type accepts").click()
    expect(page.get_by_text("true or false; not 0 or 1")).to_be_visible()
    row = page.locator(".ours-schema > li").nth(1)
    row.locator(".ours-type").select_option("string")
    expect(row.locator(".ours-error")).to_contain_text("“amount” is stored as number and cannot become string")
    expect(page.locator("#schema-preview")).to_contain_text("Solve these problems before you save")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("add a field with a new name instead")
    expect(page.locator(".ours-schema .ours-error")).to_be_visible()
    assert dataset.versions.count() == 3


def test_fields_are_moved_by_keyboard_and_by_dragging(log_in: LogIn, scene: object) -> None:
    dataset = Dataset.objects.get(name="Orders")
    page = log_in("alice")
    page.goto(f"/admin/datasets/dataset/{dataset.pk}/change/")

    def order() -> list[str]:
        return [name.input_value() for name in page.locator(".ours-name").all()]

    assert order() == ["plan", "amount", "active", "signup_at", "source"]
    page.locator(".ours-handle").nth(0).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert order() == ["amount", "active", "plan", "signup_at", "source"]
    expect(page.locator("#schema-said")).to_have_text("plan is now field 3 of 5")
    page.locator(".ours-schema").evaluate("list => list.scrollIntoView({block: 'center'})")
    last, first = page.locator(".ours-handle").nth(4).bounding_box(), page.locator(".ours-handle").nth(0).bounding_box()
    assert last is not None
    assert first is not None
    page.mouse.move(last["x"] + 8, last["y"] + 8)
    page.mouse.down()
    page.mouse.move(first["x"] + 8, first["y"] + 2, steps=12)
    page.mouse.up()
    assert order() == ["source", "amount", "active", "plan", "signup_at"]
    page.get_by_label("Remove this field").nth(1).click()
    expect(page.locator("#schema-preview")).to_contain_text("Its column and values stay")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    fields = dataset.versions.order_by("-number")[0].field_list()
    assert [field.name for field in fields] == ["source", "active", "plan", "signup_at"]


def test_key_is_rotated_with_a_grace_of_one_day(log_in: LogIn, scene: object) -> None:
    key = ApiKey.objects.get(name="checkout service")
    page = log_in("alice")
    page.goto(f"/admin/datasets/apikey/{key.pk}/change/")
    page.get_by_role("link", name="Rotate…").click()
    page.get_by_label("in 24 hours").check()
    page.get_by_role("button", name="Rotate").click()
    line = page.locator("#snippet-curl").text_content() or ""
    expect(page.get_by_text("The old key works until")).to_be_visible()
    assert curl(line)[0] == 202
    key.refresh_from_db()
    assert key.revoked_at is None
    assert key.expires_at is not None
    assert 86_000 < (key.expires_at - clock.now()).total_seconds() <= 86_400


def test_search_results_are_exported_with_progress(log_in: LogIn, scene: object) -> None:
    dataset = Dataset.objects.get(name="Orders")
    key = ApiKey.objects.get(name="checkout service")
    page = log_in("alice")
    page.goto(f"/admin/ingest/datasetrecords/{dataset.pk}/try/")
    page.select_option("#form", "lines")
    line = json.dumps(json.loads(page.locator("#body").input_value()))
    page.fill("#body", "\n".join([line] * 3))
    page.select_option("#key", str(key.pk))
    page.click("#send")
    expect(page.locator("#answer-body")).to_contain_text('"count":3')
    wait_until(lambda: records.count(dataset) == 3)
    page.get_by_role("link", name="Records", exact=True).last.click()
    expect(page.locator("#records tbody tr")).to_have_count(3)
    trace = page.locator("#records td", has_text=re.compile("^try-")).first.inner_text()
    page.fill("#trace", "nothing has this")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_text("No stored record matches")).to_be_visible()
    page.fill("#trace", trace)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#records tbody tr")).to_have_count(3)
    with page.expect_download() as download:
        page.get_by_role("link", name="NDJSON", exact=True).click()
    rows = download.value.path().read_text().splitlines()
    assert [json.loads(row)["__traceId"] for row in rows] == [trace] * 3
    expect(page.locator("#export-status")).to_contain_text("3 of 3 records exported")
