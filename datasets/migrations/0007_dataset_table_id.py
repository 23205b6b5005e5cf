import uuid

from django.db import migrations, models


class Migration(migrations.Migration):
    """Add Dataset.table_id, which binds a table to its dataset. Existing datasets get an id at their next drain."""

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
