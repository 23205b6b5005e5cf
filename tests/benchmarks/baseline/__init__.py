"""The baseline: the same API as a competent Django developer would write it at first.

DRF serializers, the key and the dataset looked up in the database, `INCRBY` for the quota, a Celery task per request
that carries the records, `bulk_create` into PostgreSQL. It is a reference to measure against, not part of the product.
"""

from tests.benchmarks.baseline.celery import app as celery_app

__all__ = ["celery_app"]
