"""Processes of the web server are killed at the worst moments."""

import subprocess
import sys

import psutil

from config.common.env import BASE_DIR
from tests.support.processes.stack import wait_for


def test_web_process_ends_if_its_parent_dies_while_it_starts() -> None:
    command = [sys.executable, "-m", "tests.faults.late_listener"]
    with subprocess.Popen(command, cwd=BASE_DIR, stdout=subprocess.PIPE) as main:
        assert main.stdout is not None
        process = psutil.Process(int(main.stdout.readline()))
        try:
            wait_for(lambda: _has_ended(process), "the end of the process")
        finally:
            if process.is_running():
                process.kill()


def _has_ended(process: psutil.Process) -> bool:
    # An orphan becomes a zombie if the process that runs the tests does not reap it.
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
