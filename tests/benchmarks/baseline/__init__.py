"""The baseline: the same API as a competent Django developer would write it at first.

It uses DRF serializers, looks up the key and the dataset in the database, and counts the quota with `INCRBY`. A Celery
task per request carries the records, and `bulk_create` writes them to PostgreSQL. The baseline is not part of the
product. The benchmark compares the product with it.
"""

from tests.benchmarks.baseline.celery import app as celery_app

__all__ = ["celery_app"]
