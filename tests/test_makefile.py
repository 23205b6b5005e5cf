"""The Makefile completes a virtual environment that an earlier run could not complete."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from config.common.env import BASE_DIR


def test_an_incomplete_virtual_environment_is_remade(tmp_path: Path) -> None:
    """Without the package python3-venv, Debian makes an environment without pip, and fails."""
    shutil.copy(BASE_DIR / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / ".venv")], check=True)
    made = tmp_path / ".venv" / "installed"
    command = ["make", f"PYTHON={sys.executable}", ".venv/installed"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert made.exists()
