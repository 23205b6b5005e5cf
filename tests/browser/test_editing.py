"""Forms in the browser: two admins at the same time, archiving, many fields, and the skip link."""

import re
import subprocess
from dataclasses import replace

from playwright.sync_api import expect

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset
from datasets.schemas.fields import Field
from datasets.tables import records
from tests.browser.conftest import LogIn
from tests.browser.support.scene import Scene
from tests.browser.support.site import wait_until
from tests.datasets.admin.test_samples import REALISTIC


def test_outdated_page_names_the_change_and_keeps_the_input(log_in: LogIn, scene: Scene) -> None:
    path = f"/admin/datasets/dataset/{scene.dataset.pk}/change/"
    alice, admin = log_in("alice"), log_in("admin")
    alice.goto(path)
    admin.goto(path)
    admin.click("#schema-add")
    admin.keyboard.type("coupon")
    expect(admin.locator("#schema-preview")).to_contain_text("Saving publishes version 4")
    admin.get_by_role("button", name="Save", exact=True).click()
    expect(admin.get_by_text("was changed successfully")).to_be_visible()
    alice.fill("[name=description]", "What we sell")
    alice.get_by_role("button", name="Save", exact=True).click()
    expect(alice.get_by_text("Nothing was saved, because this page is out of date.")).to_be_visible()
    expect(alice.get_by_text(re.compile(r"admin, \d\d:\d\d UTC: Schema: added coupon"))).to_be_visible()
    expect(alice.locator("[name=description]")).to_have_value("What we sell")
    assert "coupon" in [name.input_value() for name in alice.locator(".ours-name").all()]
    alice.get_by_role("button", name="Save", exact=True).click()
    expect(alice.get_by_text("was changed successfully")).to_be_visible()
    dataset = Dataset.objects.get(pk=scene.dataset.pk)
    assert dataset.description == "What we sell"
    assert "coupon" in [each.name for each in dataset.versions.order_by("-number")[0].field_list()]


def test_archiving_asks_first_and_the_dataset_says_so(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto(f"/admin/datasets/dataset/{scene.dataset.pk}/change/")
    expect(page.locator("[name=archive_confirmed]")).to_be_hidden()
    page.locator("[name=is_archived]").check()
    expect(page.locator("[name=archive_confirmed]")).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("confirm that you want to archive it")).to_be_visible()
    page.locator("[name=archive_confirmed]").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    page.goto(f"/admin/ingest/datasetrecords/{scene.dataset.pk}/change/")
    expect(page.locator(".ours-tabs strong")).to_have_text("Orders (archived)")


def test_one_of_two_hundred_fields_is_found(log_in: LogIn, scene: Scene) -> None:
    fields = [Field(f"measurement_number_{n:03}", "number", f"sensor {n}") for n in range(200)]
    wide = services.create_dataset(project=scene.project, name="Wide", fields=fields)
    page = log_in("alice")
    page.goto(f"/admin/datasets/dataset/{wide.pk}/change/")
    page.get_by_label("Find a field").fill("number_123")
    expect(page.locator(".ours-schema > li:visible")).to_have_count(1)
    expect(page.locator("#schema-found")).to_have_text("1 of 200 fields")
    name = page.locator(".ours-schema > li:visible .ours-name")
    expect(name).to_have_attribute("title", "measurement_number_123")
    assert name.evaluate("(each) => each.scrollWidth <= each.clientWidth")
    page.get_by_label("Find a field").fill("")
    expect(page.locator(".ours-schema > li:visible")).to_have_count(200)


def test_the_editor_writes_all_that_a_field_may_say(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto(f"/admin/datasets/dataset/{scene.payments.pk}/change/")
    rows = page.locator(".ours-schema > li")
    expect(rows.nth(0)).to_contain_text("Unit: EUR; Minimum: 0")
    expect(rows.nth(0).get_by_label("Digits in all")).to_have_value("12")
    expect(rows.nth(1).get_by_label("Values, one per line")).to_have_value("open\npaid")
    expect(rows.nth(2).get_by_label("optional")).to_be_checked()

    # Change a field's values and limits, and read what the change means.
    rows.nth(1).get_by_label("Values, one per line").fill("open\npaid\n refunded \n")
    expect(page.locator("#schema-preview")).to_contain_text("Also accepts “refunded”.")
    more = rows.nth(0).get_by_role("button", name="More…")
    expect(rows.nth(0).get_by_label("Maximum")).to_be_hidden()
    more.press("Enter")
    expect(rows.nth(0).get_by_label("Unit")).to_be_focused()
    rows.nth(0).get_by_label("Maximum").fill("many")
    expect(rows.nth(0).locator(".ours-error")).to_contain_text("maximum is not a value of the field")
    rows.nth(0).get_by_label("Maximum").fill("99.90")
    expect(rows.nth(0).locator(".ours-error")).to_have_count(0)

    # Add an integer with a limit that JavaScript would round, then a decimal.
    page.click("#schema-add")
    page.keyboard.type("number")
    rows.nth(4).locator(".ours-type").select_option("integer")
    rows.nth(4).get_by_label("optional").check()
    rows.nth(4).get_by_role("button", name="More…").click()
    rows.nth(4).get_by_label("Minimum").fill("9007199254740993")
    page.click("#schema-add")
    page.keyboard.type("fee")
    rows.nth(5).locator(".ours-type").select_option("decimal(p,s)")
    rows.nth(5).get_by_label("Digits after the point").fill("4")
    expect(page.locator("#schema-preview")).to_contain_text("integer; optional; at least 9007199254740993.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    expected = [
        replace(scene.payments.versions.get(number=1).field_list()[0], maximum="99.90"),
        Field("state", "enum", values=("open", "paid", "refunded")),
        Field("coupon", "string", optional=True, max_length=20, pattern="^[A-Z0-9-]+$"),
        Field("lines", "json"),
        Field("number", "integer", optional=True, minimum=9007199254740993),
        Field("fee", "decimal(18,4)"),
    ]
    assert scene.payments.versions.get(number=2).field_list() == expected

    # The page loses nothing of the schema: if it is opened and saved again, nothing changes.
    page.goto(f"/admin/datasets/dataset/{scene.payments.pk}/change/")
    expect(page.locator("#schema-preview")).to_contain_text("No changes")
    rows.nth(0).locator(".ours-what").fill("with all taxes")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    expected[0] = replace(expected[0], description="with all taxes")
    assert scene.payments.versions.get(number=3).field_list() == expected


_MISSING_COMMA = '{"fields": {"plan": "string" "state": "string"}}'
_BAD_VALUES = '{"fields": {"a": "string", "state": {"type": "enum", "values": "open,paid"}, "b": "number"}}'


def test_json_is_kept_as_typed_and_wrong_json_is_not_saved(log_in: LogIn, scene: Scene) -> None:
    """The script put the old schema back when the text was wrong, and the server saved that."""
    page = log_in("alice")
    page.goto(f"/admin/datasets/dataset/{scene.dataset.pk}/change/")
    box, errors, preview = (page.locator(each) for each in ("#id_schema", "#schema-text-errors", "#schema-preview"))
    names = page.locator(".ours-name")
    page.get_by_text("Edit as JSON").click()
    rows = names.count()
    for text, error in (
        ('{"a": "string"}', "A schema is an object like"),
        ('{"fields": {"a": 5}}', "“a” is not a field: it needs a name and a type, both texts."),
        ('{"fields": {"a": "string", "a": "number"}}', "“a” is declared twice."),
        ('{"fields": {"a": {"type": "string", "optional": "yes"}}}', "“optional” must be true or false."),
        ('{"fields": {"a": {"type": "number", "maximum": 0.12345678901234567890}}}', "more digits than are kept"),
        ("", "The schema is empty."),
        (_BAD_VALUES, "“state”: “values” must be a list of texts."),
    ):
        box.fill(text)
        page.keyboard.press("Tab")
        expect(errors).to_contain_text(error)
        expect(box).to_have_value(text)
        assert (names.count(), page.locator(".ours-wrong").count()) == (rows, 0)
    expect(preview).to_contain_text("The JSON below is not a schema")
    expect(page.locator("#schema-panel-old")).to_be_visible()
    page.click("#sample-infer")
    expect(page.locator("#sample-notes")).to_contain_text("Correct the JSON of the fields first.")
    expect(box).to_have_value(_BAD_VALUES)

    # Save without leaving the box: the server refuses the text, and its page keeps it.
    box.fill(_MISSING_COMMA)
    page.locator("[name=_save]").click()
    expect(page.get_by_role("alert").filter(has_text="Line 1, column 30")).to_be_visible()
    expect(box).to_have_value(_MISSING_COMMA)
    expect(errors).to_contain_text("a comma or the end is expected")
    assert scene.dataset.versions.count() == 3

    # After a correction, the rows follow the text, and Save sends the text.
    limited = '{"name": "n", "type": "integer", "minimum": 9007199254740993}'
    box.fill('{"fields": [{"name": "plan", "type": "string?"}, ' + limited + "]}")
    expect(names).to_have_count(2)
    expect(names.nth(1)).to_have_value("n")
    expect(page.locator(".ours-schema > li").nth(1)).to_contain_text("Minimum: 9007199254740993")
    expect(errors).to_be_empty()
    expect(page.locator("#schema-panel-old")).to_be_hidden()
    page.locator("[name=_save]").click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    latest = scene.dataset.versions.latest("number").field_list()
    assert latest == [Field("plan", "string", optional=True), Field("n", "integer", minimum=9007199254740993)]


def test_a_realistic_record_leads_to_a_dataset_that_accepts_it(log_in: LogIn, scene: Scene) -> None:
    page = log_in("alice")
    page.goto(f"/admin/datasets/dataset/add/?project={scene.project.pk}")
    page.fill("[name=name]", "Customers")
    expect(page.locator("#schema-panel")).to_contain_text("accepts no records until it has a field")
    page.fill("#sample", '{"a":"' + "é" * 500_000 + '"}')  # in a form, each é takes 6 bytes
    expect(page.locator("#sample-notes")).to_contain_text(
        "it has 500,008 characters. Paste fewer records, at most 333,"
    )
    page.click("#sample-infer")
    expect(page.locator("#sample-notes")).to_contain_text("This sample is too large")
    assert page.locator("[name=_sample]").count() == 0  # a save does not send it
    page.fill("#sample", REALISTIC)
    assert page.locator("[name=_sample]").count() == 1
    page.dblclick("#sample-infer")
    expect(page.locator("#sample-notes")).to_contain_text("9 fields added")
    expect(page.locator("#sample-notes")).to_contain_text("“id”, “Customer Name”, “2fa” cannot be field names.")
    expect(page.locator("#sample-notes")).to_contain_text("“coupon” is null in every sample")
    expect(page.locator(".ours-wrong")).to_have_count(3)
    expect(page.locator("#schema-preview")).to_contain_text("Solve these problems before you save")

    # Use the suggested names: one, then the others. The rows say what clients must do.
    page.get_by_role("button", name="Use customer_name").click()
    expect(page.locator(".ours-wrong")).to_have_count(2)
    expect(page.locator(".ours-schema > li").nth(1)).to_contain_text(
        "Clients must send “customer_name” instead of “Customer Name”."
    )
    page.get_by_role("button", name="Use all 2 suggested names").click()
    expect(page.locator("#schema-said")).to_contain_text("Clients must send “_2fa” instead of “2fa”.")
    expect(page.locator(".ours-wrong")).to_have_count(0)
    expect(page.locator("#schema-preview")).to_contain_text("Saving publishes version 1")
    page.click("#sample-infer")  # this does not add the renamed fields again
    expect(page.locator("#sample-notes")).to_contain_text("The list already has all fields of the sample.")
    assert page.locator(".ours-schema > li").count() == 9
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    dataset = Dataset.objects.get(name="Customers")

    # Send the record of the page, with the values of the sample.
    page.fill("#sample", REALISTIC)
    page.locator(".ours-what").first.fill("the shop's ID")
    expect(page.locator("#snippet-curl")).to_contain_text("9007199254740993")
    line = page.locator("#snippet-curl").inner_text().replace("YOUR_API_KEY", issue_token(scene.key))
    shell = subprocess.run(["bash", "-c", line + " -sS"], capture_output=True, text=True, check=True)
    assert shell.stdout == '{"success":true,"status":"queued"}'
    wait_until(lambda: records.count(dataset) == 1)
    page.goto(f"/admin/ingest/datasetrecords/{dataset.pk}/change/")
    for shown in ("9007199254740993", "Ada", "true", '{"city": "Cluj", "zip": null}', "[new, eu]", "1990-12-10"):
        expect(page.locator("#records tbody")).to_contain_text(shown)
    expect(page.get_by_role("columnheader", name="_id integer")).to_be_visible()
    expect(page.get_by_role("columnheader", name="coupon json; optional")).to_be_visible()

    # Try it also begins with a record that fits.
    page.get_by_role("link", name="Try it").click()
    page.click("#ask")
    expect(page.locator("#try-answer [data-status='202']")).to_be_visible()
