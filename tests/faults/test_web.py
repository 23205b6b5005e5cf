"""The web server's processes, killed at awkward moments."""

import subprocess
import sys

import psutil

from config.common.env import BASE_DIR
from tests.support.stack import wait_for


def test_a_web_process_whose_main_was_killed_while_it_was_starting_does_not_stay() -> None:
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
    # An orphan is reaped by whoever runs the suite, or by nobody.
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
