from django.db import migrations, models


class Migration(migrations.Migration):
    """Add Installation.storage_marked. It is set when our marker file has been written to the storage."""

    dependencies = [
        ("datasets", "0008_help_texts"),
    ]

    operations = [
        migrations.AddField(
            model_name="installation",
            name="storage_marked",
            field=models.BooleanField(default=False, editable=False),
        ),
    ]
