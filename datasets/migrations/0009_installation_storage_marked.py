from django.db import migrations, models


class Migration(migrations.Migration):
    """Add Installation.storage_marked, which is set once the storage has our marker file."""

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
