import uuid

from django.db import migrations, models


class Migration(migrations.Migration):
    """Datasets get the id that binds a table to them. Existing ones get theirs at their next drain."""

    dependencies = [
        ("datasets", "0006_installation"),
    ]

    operations = [
        migrations.AddField(
            model_name="dataset",
            name="table_id",
            field=models.UUIDField(editable=False, null=True),
        ),
        migrations.AlterField(
            model_name="dataset",
            name="table_id",
            field=models.UUIDField(default=uuid.uuid4, editable=False, null=True),
        ),
    ]
