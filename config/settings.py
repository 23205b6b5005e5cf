"""Every setting of the service, with its default. A test compares it with docs/settings.md.

With no environment at all, everything lives in DATA_DIR (`var/`): SQLite, an embedded Redis, tables, secret.
Production sets DATABASE_URL, REDIS_URL, STORAGE_URL and SECRET_KEY.
"""

import sys
from datetime import timedelta
from typing import Any

import django_stubs_ext
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.common.env import (
    broker,
    data_dir,
    database,
    embedded_redis_socket,
    embedded_secret,
    env,
    machine_memory,
    storage_directory,
)
from config.common.private import private_directory, usable

django_stubs_ext.monkeypatch()  # admin and form classes may name their model, as the type checker wants

# -- where things are ---------------------------------------------------------------------------------

DATA_DIR = data_dir()
private_directory(DATA_DIR)
REDIS_URL = env.text("REDIS_URL", default=f"unix://{embedded_redis_socket(DATA_DIR)}?db=0")
REDIS_IS_EMBEDDED = not env.is_set("REDIS_URL")
# Of the embedded Redis: half of the machine's memory. Admission stops at 80 % of it, whatever the backlog limits say.
REDIS_MAXMEMORY_BYTES = env.integer("REDIS_MAXMEMORY_BYTES", machine_memory() // 2, least=1)
_BROKER = f"redis+socket://{embedded_redis_socket(DATA_DIR)}?virtual_host=1" if REDIS_IS_EMBEDDED else broker(REDIS_URL)
CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", default=_BROKER)
# A directory, or an object store's URL (s3://bucket/prefix; credentials by the usual AWS_* variables).
STORAGE_URL = env.text("STORAGE_URL", default=str(DATA_DIR / "tables"))

# -- Django -------------------------------------------------------------------------------------------

DEBUG = env.truth("DEBUG", default=False)
with usable(DATA_DIR):
    SECRET_KEY = env.text("SECRET_KEY", default="") or embedded_secret(DATA_DIR)
SECRET_KEY_FALLBACKS = env.texts("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.texts("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.texts("CSRF_TRUSTED_ORIGINS", default=[])

# API keys are signed with their own secret, so that sessions and keys can be rotated apart.
API_KEY_SECRET = env.text("API_KEY_SECRET", default="") or SECRET_KEY
API_KEY_SECRET_FALLBACKS = env.texts("API_KEY_SECRET_FALLBACKS", default=SECRET_KEY_FALLBACKS)

INSTALLED_APPS = [
    # Ours before unfold, and unfold before Django's admin: the first that has a template is the one that is asked.
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
# Paths that these serve; all others are the API's, which carries no cookie, form or page (see config.web.wsgi).
SITE_PATHS = ("/admin/", "/static/")

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.web.wsgi.application"
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

_DATABASE_URL = env.text("DATABASE_URL", default="")
_EMBEDDED_DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "db.sqlite3"}
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **(database(_DATABASE_URL) if _DATABASE_URL else _EMBEDDED_DATABASE),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # PgBouncer in transaction mode may give the second fetch of a cursor to another connection.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # Readers do not block the writer; a writer that must wait takes its turn instead of failing.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The first one hashes; a hash that Django's own default made is read by it, too.
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

# Seconds a single Redis reply may take, and the whole of an admission, a reconnection included.
REDIS_TIMEOUT_SECONDS = env.number("REDIS_TIMEOUT_SECONDS", default=1.0, least=0.01)
ADMISSION_TIMEOUT_SECONDS = env.number("ADMISSION_TIMEOUT_SECONDS", default=3.0, least=0.01)

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {
            # The default is pickle: whoever can write to Redis could run code in every process.
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            "CONNECTION_POOL_KWARGS": {
                "socket_timeout": REDIS_TIMEOUT_SECONDS * 5,
                "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
                "protocol": 2,
                # redis-py repeats a command whose reply was lost, whatever it does. What we send is not always
                # safe to repeat blindly: each caller decides.
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

# Logins that fail are counted in the database, for all web processes, by username and address together: who guesses is
# stopped, and neither everybody behind his address nor the person whose name he tried from elsewhere.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# Proxies in front, each of which adds to X-Forwarded-For whom it serves; without them that header is anybody's claim.
PROXY_COUNT = env.integer("PROXY_COUNT", default=0, least=0)
AXES_FAILURE_LIMIT = env.integer("LOGIN_FAILURE_LIMIT", default=5, least=1)
AXES_COOLOFF_TIME = timedelta(minutes=env.integer("LOGIN_LOCKOUT_MINUTES", default=15, least=1))
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_CALLABLE = "config.site.people.tried_username"
AXES_CLIENT_IP_CALLABLE = "config.common.requests.client_address"
AXES_LOCKOUT_CALLABLE = "config.site.people.locked_out"
AXES_ENABLE_ADMIN = False  # config.site.people has a page of ours
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

# `check --deploy` names our variables (config.checks.check_site), where Django's checks name its own settings.
SILENCED_SYSTEM_CHECKS = [f"security.W{number:03}" for number in (4, 5, 8, 9, 12, 16, 18, 21, 25)]

# Security of the admin. HTTPS is declared by the operator, who terminates it.
_HTTPS = env.truth("HTTPS", default=False)
SECURE_SSL_REDIRECT = _HTTPS  # of the site: the API's stack has no middleware
SESSION_COOKIE_SECURE = _HTTPS
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_SECURE = _HTTPS
CSRF_FAILURE_VIEW = "config.web.pages.csrf_failure"
SECURE_HSTS_SECONDS = 31_536_000 if _HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _HTTPS
SECURE_HSTS_PRELOAD = _HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _HTTPS else None

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

# -- what a request may carry -------------------------------------------------------------------------

# Of each web process. A part of them is there to wait for bodies (see config.common.arrival).
WEB_THREADS = env.integer("WEB_THREADS", default=32, least=1)
# How long a web process that is told to stop may still answer requests; then it is killed.
WEB_STOP_SECONDS = 10
# A client that reads nothing of an answer for this long loses its connection: else it could hold a thread or memory.
SEND_TIMEOUT_SECONDS = env.number("SEND_TIMEOUT_SECONDS", default=60.0, least=1)
MAX_BODY_BYTES = env.integer("MAX_BODY_BYTES", default=10 * 1024 * 1024, least=1)
MAX_BATCH_RECORDS = env.integer("MAX_BATCH_RECORDS", default=10_000, least=1)
# Queued bytes, of one dataset and of all, above which requests are answered 503.
BACKLOG_LIMIT_BYTES_PER_DATASET = env.integer("BACKLOG_LIMIT_BYTES_PER_DATASET", default=2 * 1024**3, least=1)
# A project may take this share of what the other projects leave free of BACKLOG_LIMIT_BYTES; 1 is no limit.
BACKLOG_SHARE_PER_PROJECT = env.number("BACKLOG_SHARE_PER_PROJECT", default=0.5, least=0.01)
BACKLOG_LIMIT_BYTES = env.integer("BACKLOG_LIMIT_BYTES", default=4 * 1024**3, least=1)
# Datasets of a project that accept records. Each has a table and commits of its own: many cost workers time.
DATASETS_PER_PROJECT = env.integer("DATASETS_PER_PROJECT", default=1000, least=1)
IDEMPOTENCY_TTL_SECONDS = env.integer("IDEMPOTENCY_TTL_SECONDS", default=24 * 3600, least=1)
# The latest refusals that each project keeps for the admin, with the beginning of their bodies; 0 keeps none.
REFUSAL_LOG_ENTRIES = env.integer("REFUSAL_LOG_ENTRIES", default=100, least=0)
# Idempotency-Keys that are remembered for a project at a time: 165 bytes of Redis's memory each.
IDEMPOTENCY_KEYS_PER_PROJECT = env.integer("IDEMPOTENCY_KEYS_PER_PROJECT", default=1_000_000, least=1)

# -- contracts, cached in each web process ------------------------------------------------------------

# A change is effective at once through the project's revision; this is the backstop should one be lost.
CATALOG_TTL_SECONDS = env.number("CATALOG_TTL_SECONDS", default=30.0, least=1)
CATALOG_MAX_ENTRIES = env.integer("CATALOG_MAX_ENTRIES", default=200_000, least=1)

# -- quotas -------------------------------------------------------------------------------------------

# Records a month for users without a limit of their own; -1 is unlimited.
DEFAULT_QUOTA_LIMIT = env.integer("DEFAULT_QUOTA_LIMIT", default=-1, least=-1)
USAGE_FLUSH_SECONDS = env.number("USAGE_FLUSH_SECONDS", default=10.0, least=0.05)

# -- workers ------------------------------------------------------------------------------------------

DISPATCH_SECONDS = env.number("DISPATCH_SECONDS", default=0.5, least=0.05)
# One commit takes at most so many records or bytes from the queue.
DRAIN_MAX_RECORDS = env.integer("DRAIN_MAX_RECORDS", default=500_000, least=1)
DRAIN_MAX_BYTES = env.integer("DRAIN_MAX_BYTES", default=64 * 1024**2, least=1)
# After so long a drain that has died is started again. Longer than any one commit takes.
DRAIN_LEASE_SECONDS = env.number("DRAIN_LEASE_SECONDS", default=30.0, least=0.05)
COMPACT_SECONDS = env.number("COMPACT_SECONDS", default=300.0, least=1)
# Files that a compaction replaced are deleted after so long: no reader holds on to a table version for longer.
VACUUM_RETENTION_HOURS = env.integer("VACUUM_RETENTION_HOURS", default=24, least=0)
# Stored records older than this are dropped, by the day; 0 keeps them for ever.
RETENTION_DAYS = env.integer("RETENTION_DAYS", default=0, least=0)
# What an object store may take for one request; then it is asked again, for as long once more at most.
STORAGE_TIMEOUT_SECONDS = env.number("STORAGE_TIMEOUT_SECONDS", default=30.0, least=0.05)
HEARTBEAT_SECONDS = env.number("HEARTBEAT_SECONDS", default=5.0, least=0.05)

LOG_LEVEL = env.text("LOG_LEVEL", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "stream": sys.stderr}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {name: {"level": LOG_LEVEL} for name in ("config", "datasets", "quotas", "ingest")},
}

STORAGE_IS_LOCAL = "://" not in STORAGE_URL
if STORAGE_IS_LOCAL:
    STORAGE_URL = storage_directory(STORAGE_URL)
