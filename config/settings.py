"""Django's settings. Most of them come from environment variables, which `config.environment` declares and reads.

Without any variable, everything is in DATA_DIR (`var/`): SQLite, an embedded Redis, tables, secret.
Production sets DATABASE_URL, REDIS_URL, STORAGE_URL and SECRET_KEY.
"""

import os
import sys
from datetime import timedelta
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from config.common.cluster.urls import is_cluster
from config.common.env import (
    broker,
    data_directory,
    database,
    embedded_cluster,
    embedded_redis_socket,
    embedded_secret,
    storage_location,
)
from config.common.private import private_directory, usable
from config.common.sentinel.urls import is_sentinel
from config.environment import read_environment

env = read_environment(os.environ)

# -- where things are ---------------------------------------------------------------------------------

DATA_DIR = data_directory(env.DATA_DIR)
private_directory(DATA_DIR)
REDIS_IS_EMBEDDED = not env.REDIS_URL
with usable(DATA_DIR):
    _CLUSTER = embedded_cluster(DATA_DIR)
REDIS_URL = env.REDIS_URL or _CLUSTER or f"unix://{embedded_redis_socket(DATA_DIR)}?db=0"
REDIS_MAXMEMORY_BYTES = env.REDIS_MAXMEMORY_BYTES
REDIS_IS_CLUSTER = is_cluster(REDIS_URL)
# With the embedded Redis, the broker is its database 1. Otherwise the broker uses REDIS_URL.
_EMBEDDED_BROKER = f"redis+socket://{embedded_redis_socket(DATA_DIR)}?virtual_host=1"
CELERY_BROKER_URL = env.CELERY_BROKER_URL or (_EMBEDDED_BROKER if REDIS_IS_EMBEDDED else broker(REDIS_URL))
STORAGE_URL = storage_location(env.STORAGE_URL or str(DATA_DIR / "tables"))

# -- Django -------------------------------------------------------------------------------------------

DEBUG = env.DEBUG
SECRET_KEY_IS_EMBEDDED = not env.SECRET_KEY
with usable(DATA_DIR):
    SECRET_KEY = env.SECRET_KEY or embedded_secret(DATA_DIR)
SECRET_KEY_FALLBACKS = env.SECRET_KEY_FALLBACKS
API_KEY_SECRET = env.API_KEY_SECRET or SECRET_KEY
API_KEY_SECRET_FALLBACKS = env.API_KEY_SECRET_FALLBACKS or SECRET_KEY_FALLBACKS
ALLOWED_HOSTS = env.ALLOWED_HOSTS
CSRF_TRUSTED_ORIGINS = env.CSRF_TRUSTED_ORIGINS

INSTALLED_APPS = [
    # Order matters: Django uses the first app that has a template. Our overrides come before unfold's, and unfold's
    # before the admin's.
    "config",
    "datasets",
    "quotas",
    "ingest",
    "unfold.apps.BasicAppConfig",
    "config.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
]

MIDDLEWARE = [
    "config.web.middleware.RequestIdMiddleware",
    "config.web.middleware.ContentSecurityPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.web.middleware.KnownPersonMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
# Requests to these paths go through the middleware. All other requests are for the ingest API, which has no cookies,
# forms or pages (see config.web.asgi).
SITE_PATHS = ("/admin/", "/static/", "/api/", "/docs")

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.web.asgi.application"
APPEND_SLASH = False
LOGIN_URL = LOGIN_REDIRECT_URL = "/admin/"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

_EMBEDDED_DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "db.sqlite3"}
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **(database(env.DATABASE_URL) if env.DATABASE_URL else _EMBEDDED_DATABASE),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # PgBouncer in transaction mode may give the second fetch of a cursor to another connection.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # With WAL, readers do not block the writer. A second writer waits up to 20 seconds instead of failing.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# This hasher also reads hashes that Django's default hasher made.
PASSWORD_HASHERS = ["config.web.hashers.BoundedPasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "config.formats"

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
with usable(DATA_DIR):
    STATIC_ROOT.mkdir(mode=0o700, exist_ok=True)
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

REDIS_TIMEOUT_SECONDS = env.REDIS_TIMEOUT_SECONDS
REDIS_WAIT_REPLICAS = env.REDIS_WAIT_REPLICAS
ADMISSION_TIMEOUT_SECONDS = env.ADMISSION_TIMEOUT_SECONDS

# The name of the service's connections in CLIENT LIST.
REDIS_CLIENT_NAME = "dataset-ingest"
# django-redis's own factories do not know the URLs of a cluster or of a Redis behind Sentinel.
_FACTORY = {}
if is_sentinel(REDIS_URL):
    _FACTORY = {"CONNECTION_FACTORY": "config.common.sentinel.pool.SentinelConnectionFactory"}
elif REDIS_IS_CLUSTER:
    _FACTORY = {"CONNECTION_FACTORY": "config.common.cluster.connections.ClusterConnectionFactory"}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": [REDIS_URL],  # in a list, because django-redis would split a string at its commas
        "OPTIONS": {
            **_FACTORY,
            # The default is pickle, which would let anyone who can write to Redis run code in every process.
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            "CONNECTION_POOL_KWARGS": {
                "socket_timeout": REDIS_TIMEOUT_SECONDS * 5,
                "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
                "protocol": 2,
                "client_name": REDIS_CLIENT_NAME,
                # By default redis-py repeats every command whose reply was lost. Some of our commands are not safe to
                # repeat, so each caller decides.
                "retry": Retry(NoBackoff(), 0),
            },
        },
    }
}

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "EXCEPTION_HANDLER": "config.common.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Dataset ingest",
    "OAS_VERSION": "3.1.0",
    "ENABLE_DJANGO_DEPLOY_CHECK": False,  # it would also check the ingest API's views, which openapi.yaml describes
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "persistAuthorization": False},
}

# Failed logins are counted in the database, for all web processes. A lockout is for a (username, address) pair: other
# users behind that address, and that user from another address, can still log in.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
PROXY_COUNT = env.PROXY_COUNT
AXES_FAILURE_LIMIT = env.LOGIN_FAILURE_LIMIT
AXES_COOLOFF_TIME = timedelta(minutes=env.LOGIN_LOCKOUT_MINUTES)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_CALLABLE = "config.site.people.tried_username"
AXES_CLIENT_IP_CALLABLE = "config.common.requests.client_address"
AXES_LOCKOUT_CALLABLE = "config.site.people.locked_out"
AXES_ENABLE_ADMIN = False  # config.site.people has our own page
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

# These checks name Django's settings, which an operator does not set. config.checks.check_site names our variables
# instead.
SILENCED_SYSTEM_CHECKS = [f"security.W{number:03}" for number in (4, 5, 8, 9, 12, 16, 18, 21, 25)]

# The APIs do not redirect from HTTP to HTTPS: the client has already sent its token in clear text, and a redirect would
# hide this.
SECURE_SSL_REDIRECT = env.HTTPS
SECURE_REDIRECT_EXEMPT = [r"^api/"]
SESSION_COOKIE_SECURE = env.HTTPS
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_SECURE = env.HTTPS
CSRF_FAILURE_VIEW = "config.web.pages.csrf_failure"
SECURE_HSTS_SECONDS = 31_536_000 if env.HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.HTTPS
SECURE_HSTS_PRELOAD = env.HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.HTTPS else None

# -- the admin's looks --------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "Dataset ingest",
    "SITE_HEADER": "Dataset ingest",
    "SITE_SYMBOL": "dataset",
    "SITE_URL": None,
    "SHOW_BACK_BUTTON": True,
    "DASHBOARD_CALLBACK": "config.site.start.dashboard",
    "STYLES": ["/static/admin-ours/admin.css"],
    "SCRIPTS": ["/static/admin-ours/accessible.js"],
    "SIDEBAR": {"navigation": "config.site.navigation.sidebar"},
    "COLORS": {
        "primary": {
            "50": "oklch(97.7% .013 236.62)",
            "100": "oklch(95.1% .026 236.824)",
            "200": "oklch(90.1% .058 230.902)",
            "300": "oklch(82.8% .111 230.318)",
            "400": "oklch(74.6% .16 232.661)",
            "500": "oklch(68.5% .169 237.323)",
            "600": "oklch(50% .134 242.749)",
            "700": "oklch(44.3% .11 240.79)",
            "800": "oklch(39.1% .09 240.876)",
            "900": "oklch(29.3% .066 243.157)",
            "950": "oklch(24% .055 243.157)",
        },
        "font": {
            "subtle-light": "var(--color-base-600)",
            "subtle-dark": "var(--color-base-300)",
            "default-light": "var(--color-base-700)",
            "default-dark": "var(--color-base-200)",
            "important-light": "var(--color-base-900)",
            "important-dark": "var(--color-base-100)",
        },
    },
}

# -- the service: `config.environment` says what each setting means ---------------------------------------

HOST = env.HOST
PORT = env.PORT
WEB_WORKERS = env.WEB_WORKERS
CELERY_WORKERS = env.CELERY_WORKERS

ADMIN_THREADS = env.ADMIN_THREADS
BODY_SILENCE_SECONDS = env.BODY_SILENCE_SECONDS
BODY_MEMORY_BYTES = env.BODY_MEMORY_BYTES
# A web process that is told to stop may still answer requests for this long; then it is killed.
WEB_STOP_SECONDS = 10
SEND_TIMEOUT_SECONDS = env.SEND_TIMEOUT_SECONDS
MAX_BODY_BYTES = env.MAX_BODY_BYTES
MAX_BATCH_RECORDS = env.MAX_BATCH_RECORDS
BACKLOG_LIMIT_BYTES_PER_DATASET = env.BACKLOG_LIMIT_BYTES_PER_DATASET
BACKLOG_LIMIT_BYTES = env.BACKLOG_LIMIT_BYTES
BACKLOG_SHARE_PER_PROJECT = env.BACKLOG_SHARE_PER_PROJECT
DATASETS_PER_PROJECT = env.DATASETS_PER_PROJECT
IDEMPOTENCY_TTL_SECONDS = env.IDEMPOTENCY_TTL_SECONDS
IDEMPOTENCY_KEYS_PER_PROJECT = env.IDEMPOTENCY_KEYS_PER_PROJECT
REFUSAL_LOG_ENTRIES = env.REFUSAL_LOG_ENTRIES

CATALOG_TTL_SECONDS = env.CATALOG_TTL_SECONDS
CATALOG_MAX_ENTRIES = env.CATALOG_MAX_ENTRIES

DEFAULT_QUOTA_LIMIT = env.DEFAULT_QUOTA_LIMIT
USAGE_FLUSH_SECONDS = env.USAGE_FLUSH_SECONDS

QUERY_TIMEOUT_SECONDS = env.QUERY_TIMEOUT_SECONDS
QUERY_MEMORY_BYTES = env.QUERY_MEMORY_BYTES
QUERY_CONCURRENCY = env.QUERY_CONCURRENCY

DISPATCH_SECONDS = env.DISPATCH_SECONDS
FRESHNESS_SECONDS = env.FRESHNESS_SECONDS
DRAIN_MAX_RECORDS = env.DRAIN_MAX_RECORDS
DRAIN_MAX_BYTES = env.DRAIN_MAX_BYTES
DRAIN_LEASE_SECONDS = env.DRAIN_LEASE_SECONDS
COMPACT_SECONDS = env.COMPACT_SECONDS
VACUUM_RETENTION_HOURS = env.VACUUM_RETENTION_HOURS
RETENTION_DAYS = env.RETENTION_DAYS
STORAGE_TIMEOUT_SECONDS = env.STORAGE_TIMEOUT_SECONDS
HEARTBEAT_SECONDS = env.HEARTBEAT_SECONDS

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "config.web.logs.OneLineFormatter",
            "format": "{asctime} {levelname} {name} {message}",
            "style": "{",
        }
    },
    "filters": {"short": {"()": "config.web.logs.WithoutTracebackOfRefusal"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["short"],
            "stream": sys.stderr,
        }
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {name: {"level": env.LOG_LEVEL} for name in ("config", "datasets", "quotas", "ingest")},
}
