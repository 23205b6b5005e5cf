"""Add the ID of this database. Redis also keeps this ID, to tell which database its data belongs to."""

import uuid

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def make_id(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("datasets", "Installation").objects.create(pk=1)


class Migration(migrations.Migration):
    dependencies = [("datasets", "0003_dataset_has_table")]

    operations = [
        migrations.CreateModel(
            name="Installation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("uuid", models.UUIDField(default=uuid.uuid4, editable=False)),
            ],
        ),
        migrations.RunPython(make_id, migrations.RunPython.noop),
    ]
