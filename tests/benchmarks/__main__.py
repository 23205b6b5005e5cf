"""`make bench`: see --help."""

import os
import shutil
import signal
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from types import FrameType

import django

from tests.benchmarks import options as command_line

_NODE_MODULES = Path(__file__).parent / "node" / "node_modules"


def main() -> int:
    options = command_line.parse()
    if shutil.which("wrk") is None or shutil.which("node") is None or not _NODE_MODULES.exists():
        sys.exit(
            "wrk and Node.js are needed (Debian: apt-get install wrk nodejs npm), and the Node service's packages "
            f"(npm ci --prefix {_NODE_MODULES.parent})."
        )
    root = Path(tempfile.mkdtemp(prefix="ingest-bench-"))
    root.chmod(0o755)  # if we are root, PostgreSQL runs as another user
    _environment(root)
    warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR")  # PostgreSQL's library finds another place for its socket
    django.setup()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        # Import this only after Django knows where its data is.
        code: int = import_module("tests.benchmarks.run").run(root, options)
        return code
    finally:
        if options.keep:
            sys.stderr.write(f"Logs and data are in {root}\n")
        else:
            shutil.rmtree(root, ignore_errors=True)


def _environment(root: Path) -> None:
    """Set the settings that `manage.py up` would set, with a directory of our own."""
    for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "STORAGE_URL", "SECRET_KEY", "API_KEY_SECRET"):
        os.environ.pop(name, None)
    os.environ.update(
        DJANGO_SETTINGS_MODULE="config.settings",
        DATA_DIR=str(root / "data"),
        # If the queue were full, requests would be refused. The benchmark does not measure that.
        BACKLOG_LIMIT_BYTES_PER_DATASET=str(64 * 1024**3),
        BACKLOG_LIMIT_BYTES=str(64 * 1024**3),
        BACKLOG_SHARE_PER_PROJECT="1",
        REDIS_MAXMEMORY_BYTES=str(64 * 1024**3),
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
