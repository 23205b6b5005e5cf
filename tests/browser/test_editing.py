"""Forms in the browser: two admins at once, archiving, many fields, and the skip link."""

import re

from playwright.sync_api import expect

from datasets import services
from datasets.models import Dataset
from datasets.schemas.fields import Field
from tests.browser.conftest import LogIn
from tests.browser.support.pages import addresses
from tests.browser.support.scene import Scene


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


def test_every_page_has_a_skip_link_to_its_main_part(log_in: LogIn, scene: Scene) -> None:
    page = log_in("admin")
    for name, path in addresses(scene).items():
        page.goto(path)
        assert page.locator("main, [role=main]").count() == 1, name
    page.goto("/admin/")
    page.keyboard.press("Tab")
    expect(page.locator(".ours-skip")).to_be_focused()
    expect(page.locator(".ours-skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main, [role=main]")).to_be_focused()
