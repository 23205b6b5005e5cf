"""The baseline's settings: the defaults of a new Django project, without the apps and middleware of a site."""

import os

import environ

SECRET_KEY = "baseline-only-" + "x" * 40
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["rest_framework", "tests.benchmarks.baseline"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "tests.benchmarks.baseline.urls"
WSGI_APPLICATION = "tests.benchmarks.baseline.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

DATABASES = {"default": {**environ.Env().db_url_config(os.environ["BASELINE_DATABASE_URL"]), "CONN_MAX_AGE": 60}}
CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["BASELINE_REDIS_URL"]}}
CELERY_BROKER_URL = os.environ["BASELINE_BROKER_URL"]
CELERY_TASK_IGNORE_RESULT = True

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["tests.benchmarks.baseline.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "UNAUTHENTICATED_USER": None,
}
