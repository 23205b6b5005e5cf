from django.db import migrations, models


class Migration(migrations.Migration):
    """Add Dataset.has_table. Existing datasets start with False, and their next drain sets it."""

    dependencies = [
        ('datasets', '0002_project_members'),
    ]

    operations = [
        migrations.AddField(
            model_name='dataset',
            name='has_table',
            field=models.BooleanField(default=False, editable=False),
        ),
    ]
