"""Log shippers as processes, with the configurations of their pages."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.clients.recipes.pages import Target, code_of
from tests.support.processes.stack import free_port, wait_for
from tests.support.tools import executable

UNPACKED = Path(sys.prefix) / "syslog-ng"  # `make programs` unpacks syslog-ng here


class SyslogNg:
    """syslog-ng, in a folder of its own."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        roots = [UNPACKED / each for each in ("usr/sbin", "usr/lib", "lib")] if UNPACKED.exists() else []
        self._sbin = roots[0] if roots else None
        libraries = [*(path for root in roots[1:] for path in (*root.glob("*-linux-gnu"), root / "syslog-ng"))]
        self._environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}
        self._modules = [str(path) for path in UNPACKED.glob("usr/lib/syslog-ng/*.*")]
        also = {
            "port(601)": f"port({self.port})",
            "/var/lib/syslog-ng": f"{folder}",
            "time-reopen(5)": "time-reopen(1)",
        }
        code = Target(target.url, target.token, target.dataset_id, also).filled(code_of("syslog-ng", ""))
        (folder / "conf").write_text(f"@version: {self._version()}\n{code}")

    def _run(self, program: str, *arguments: str) -> str:
        command = [executable(program, self._sbin), *arguments]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout

    def _version(self) -> str:
        (found,) = re.findall(r"^Config version: ([\d.]+)", self._run("syslog-ng", "--version"), re.MULTILINE)
        return str(found)

    def start(self) -> None:
        files = [f"{option}={self.folder / name}" for option, name in _FILES.items()]
        modules = [f"--module-path={os.pathsep.join(self._modules)}"] if self._modules else []
        command = [executable("syslog-ng", self._sbin), "-F", "--no-caps", "--stderr", *files, *modules]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environment, stderr=log)
        wait_for(self._listens, "syslog-ng listens", seconds=30)

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages over TCP, framed by their lengths (RFC 6587)."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"".join(b"%d %s" % (len(each), each) for each in messages))

    def wait_until_queued(self, count: int) -> None:
        """Wait until this number of messages is in the disk buffer."""

        def queued() -> bool:
            printed = self._run("syslog-ng-ctl", "stats", f"--control={self.folder / 'ctl'}")
            return f";queued;{count}\n" in "".join(line for line in printed.splitlines(True) if "http" in line)

        wait_for(queued, f"{count} messages in the buffer", seconds=30)

    def wait_for_log(self, text: str) -> None:
        wait_for(lambda: text in self.log.read_text(), text, seconds=30)


_FILES = {"--cfgfile": "conf", "--persist-file": "persist", "--control": "ctl", "--pidfile": "pid"}


@contextmanager
def syslog_ng(target: Target) -> Iterator[SyslogNg]:
    """Run syslog-ng during a block, in a folder whose path is short enough for a unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        shipper = SyslogNg(target, Path(folder))
        try:
            shipper.start()
            yield shipper
        finally:
            shipper.stop(signal.SIGKILL)
