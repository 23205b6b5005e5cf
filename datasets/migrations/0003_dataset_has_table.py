from django.db import migrations, models


class Migration(migrations.Migration):
    """Of datasets that there are, it is noted at their next drain whether they have a table."""

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
