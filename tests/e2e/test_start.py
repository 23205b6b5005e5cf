"""In unusual environments, `manage.py up` works, or prints one sentence that says what to do."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx
import psutil
import pytest

from config.common.env import BASE_DIR
from tests.support.processes.stack import PATIENCE_SECONDS, Stack, running, wait_for, words


def starts(stack: Stack) -> str:
    """Start `up`, wait until its admin answers, and stop it. Return what it printed. No process may be left."""
    try:
        stack.start()
        address = words(r"Listening on (\S+)/ ", stack.printed())
        answer = httpx.get(f"{address}/admin/login/", trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        assert stack.stop() == 0
    finally:
        stack._end_what_is_left()
    assert "Traceback" not in stack.printed()
    return stack.printed()


def refuses(stack: Stack, sentence: str) -> str:
    """Start `up`. It must end with one line that contains `sentence`. No process may be left."""
    try:
        stack.launch()
        assert stack.process is not None
        assert stack.process.wait(PATIENCE_SECONDS) == 1
        assert stack.processes() == set()
    finally:
        stack._end_what_is_left()
    assert stack.printed().count("\n") == 1, stack.printed()
    assert sentence in stack.printed()
    return stack.printed()


# -- it works


def test_up_starts_in_a_foreign_ascii_environment(tmp_path: Path) -> None:
    environment = {
        **dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9"),
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "DJANGO_SETTINGS_MODULE": "another.project.settings",
        "HOST": "127.0.0.2",
    }
    stack = Stack(tmp_path / "100%; {a}", "--no-demo", environment=environment)
    stack.directory = tmp_path
    assert f"http://127.0.0.2:{stack.port}/" in starts(stack)


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_up_outlives_its_terminal_under_nohup(tmp_path: Path, host: str) -> None:
    stack = Stack(tmp_path / "data", "--no-demo", environment={"HOST": host})
    stack.prefix = ["nohup"]
    try:
        stack.start()
        assert stack.process is not None
        stack.process.send_signal(signal.SIGHUP)
        name = "localhost" if host == "localhost" else "[::1]"
        assert httpx.get(f"http://{name}:{stack.port}/healthz", trust_env=False).status_code == 200
        assert not stack.has_ended()
        assert stack.stop() == 0
    finally:
        stack._end_what_is_left()


def test_up_keeps_running_when_its_output_pipe_closes(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", "--no-demo")
    line = f"{shlex.quote(sys.executable)} manage.py up --no-demo --port {stack.port} 2>&1 | head -n 1"
    environment = {**stack.environment, "DATA_DIR": str(stack.data_dir)}
    with subprocess.Popen(["sh", "-c", line], cwd=BASE_DIR, env=environment, stdout=subprocess.PIPE) as stack.process:
        try:
            with stack.client() as client:

                def answers() -> bool:
                    try:
                        return client.get("/readyz").status_code == 200
                    except httpx.TransportError:
                        return False

                wait_for(answers, "readiness")
                (up,) = [each for each in stack.processes() if "up" in each.cmdline() and each.name() != "sh"]
                up.send_signal(signal.SIGTERM)
                psutil.wait_procs(stack.processes(), PATIENCE_SECONDS)
                assert stack.processes() == set()
        finally:
            stack._end_what_is_left()


def test_up_starts_in_a_moved_environment_with_few_files(tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    (moved / "bin").mkdir(parents=True)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", moved)
    (moved / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (moved / "lib").symlink_to(Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.prefix})).parent)
    for name in ("celery", "granian", "supervisord"):
        (moved / "bin" / name).write_text("#!/where/it/was/made/bin/python\n")
        (moved / "bin" / name).chmod(0o755)
    stack = Stack(tmp_path / "data", "--no-demo")
    stack.python = str(moved / "bin" / "python")
    stack.prefix = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"]
    starts(stack)


def test_up_starts_after_an_up_was_killed(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--no-demo") as first:
        assert first.process is not None
        first.processes()
        first.process.kill()
        first.process.wait()
        second = Stack(first.data_dir, "--no-demo")
        second.port = first.port
        starts(second)
        assert first.processes() == set()


def test_up_starts_after_all_but_redis_was_killed(tmp_path: Path) -> None:
    """When the supervisor is killed, its processes end, too."""
    with running(tmp_path / "data", "--no-demo") as first:
        assert first.process is not None
        supervisor = psutil.Process(first.process.pid).children()
        first.processes()
        for each in (psutil.Process(first.process.pid), *supervisor):
            each.kill()
        first.process.wait()
        second = Stack(first.data_dir, "--no-demo")
        second.port = first.port
        starts(second)
        assert first.processes() == set()


# -- one sentence says what to do


@pytest.mark.parametrize("name", ["a[b", "a]b", "a^b", "a|b", "a\\b", "a%41b"])
def test_up_refuses_a_data_dir_whose_path_cannot_hold_tables(tmp_path: Path, name: str) -> None:
    refuses(Stack(tmp_path / name), "Choose another DATA_DIR, or another STORAGE_URL.")


def test_up_refuses_a_data_dir_whose_path_is_not_text(tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    refuses(Stack(tmp_path / "é", environment=ascii_only), "Set LC_ALL=C.UTF-8")
    refuses(Stack(tmp_path / "a\nb"), "choose another DATA_DIR")


def test_up_refuses_a_data_dir_that_supervisor_cannot_read(tmp_path: Path) -> None:
    refuses(Stack(tmp_path / "a #b", "--no-demo"), "Choose another DATA_DIR, or install the service at another path")


def test_up_refuses_a_data_dir_that_root_owns(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", "--no-demo")
    stack.data_dir.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(stack.data_dir, 65534, 65534)
        stack.prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]  # like a user without root's privileges
    else:
        stack.data_dir.chmod(0o500)
    line = refuses(stack, "set DATA_DIR to another directory")
    assert "Permission denied" in line


def test_up_names_a_host_of_another_machine(tmp_path: Path) -> None:
    refuses(Stack(tmp_path / "data", environment={"HOST": "nowhere.invalid"}), "HOST=nowhere.invalid is not an address")
    refuses(Stack(tmp_path / "data", environment={"HOST": "192.0.2.1"}), "choose another with --port, or another HOST.")


def test_up_names_shared_memory_that_is_read_only(tmp_path: Path) -> None:
    mount = "mount --make-rprivate / && mount -t tmpfs -o ro none /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounts")
    stack = Stack(tmp_path / "data", "--no-demo")
    stack.prefix = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    refuses(stack, "Mount a writable /dev/shm.")


def test_up_names_a_damaged_append_only_file(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", "--no-demo")
    starts(stack)
    (file,) = stack.data_dir.glob("redis/appendonlydir/*.incr.aof")
    first, rest = file.read_bytes().split(b"\r\n*", 1)  # Redis repairs damage in the last command by itself
    file.write_bytes(first + b"\r\ndamage*" + rest)
    line = refuses(stack, "which removes the damaged end of the file")
    command = line.partition("and the requests in it: ")[2]
    done = subprocess.run(["sh", "-c", command], input=b"y\n", capture_output=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    starts(Stack(stack.data_dir, "--no-demo"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_during_the_start_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    stack = Stack(tmp_path / "data")
    stack.launch()

    def preparing() -> bool:
        return any("valkey-server" in " ".join(process.cmdline()) for process in stack.processes())

    wait_for(preparing, "the Redis that it prepares with")
    assert stack.stop(number) == 0
    assert "Traceback" not in stack.printed()
