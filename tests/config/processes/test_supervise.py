"""supervisor reads the configuration of `up` with the meaning that `up` intends."""

import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings
from supervisor.options import ServerOptions

from config.common.env import machine_memory
from config.processes.supervise import END_WITH_PARENT, configuration, programs


def read(directory: Path) -> ServerOptions:
    path = directory / "supervisord.conf"
    path.write_text(configuration(programs(port=8123, web=3, workers=2)))
    options = ServerOptions()
    options.realize(["-c", str(path)])
    return options


@pytest.mark.parametrize("name", ["plain", 'it\'s 100 % "mine"', "%(here)s %(ENV_HOME)s", "a;b#c\\d", "é\u00a0"])
def test_supervisor_reads_any_path_as_it_was_written(settings: Settings, tmp_path: Path, name: str) -> None:
    settings.DATA_DIR = tmp_path / name
    settings.REDIS_IS_EMBEDDED = True
    settings.DATA_DIR.mkdir()
    options = read(tmp_path)
    assert options.pidfile == str(settings.DATA_DIR / "supervisor" / "supervisord.pid")
    read_back = {process.name: process for group in options.process_group_configs for process in group.process_configs}
    written = {program.name: program for program in programs(port=8123, web=3, workers=2)}
    assert read_back.keys() == written.keys() == {"redis", "web", "worker", "upkeep", "beat"}
    for each, process in read_back.items():
        assert shlex.split(process.command) == [*END_WITH_PARENT, *written[each].command]
        assert process.stdout_logfile == str(settings.DATA_DIR / "logs" / f"{each}.log")
        assert process.stopwaitsecs == written[each].stop_seconds
    redis = shlex.split(read_back["redis"].command)
    assert redis[redis.index("--dir") + 1] == str(settings.DATA_DIR / "redis")


def test_redis_is_stopped_after_all_other_processes(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR, settings.REDIS_IS_EMBEDDED = tmp_path, True
    groups = {group.name: group for group in read(tmp_path).process_group_configs}
    assert {process.name for process in groups["service"].process_configs} == {"web", "worker", "upkeep", "beat"}
    assert groups["redis"].priority < groups["service"].priority


def test_supervisor_does_not_start_the_operators_redis(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR, settings.REDIS_IS_EMBEDDED = tmp_path, False
    assert [group.name for group in read(tmp_path).process_group_configs] == ["service"]


@pytest.mark.parametrize("name", ["a #b", "a ;b"])
def test_a_path_that_supervisor_cannot_read_is_refused(settings: Settings, tmp_path: Path, name: str) -> None:
    settings.DATA_DIR, settings.REDIS_IS_EMBEDDED = tmp_path / name, True
    with pytest.raises(ImproperlyConfigured, match="Choose another DATA_DIR, or install the service at another path"):
        configuration(programs(port=1, web=1, workers=1))


def test_the_commands_follow_the_settings(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR, settings.REDIS_IS_EMBEDDED = tmp_path, True
    settings.HOST = "0.0.0.0"
    commands = {program.name: " ".join(program.command) for program in programs(port=8123, web=3, workers=2)}
    assert "--host 0.0.0.0 --port 8123 --workers 3 " in commands["web"]
    assert commands["worker"].endswith(" -m config.processes.run_celery worker 2")
    assert "--appendonly yes --appendfsync always " in commands["redis"]
    assert f"--maxmemory {machine_memory() // 2} --maxmemory-policy noeviction " in commands["redis"]
    assert commands["upkeep"].endswith(" -m config.processes.run_celery upkeep")
    # The other processes come first: compaction can wait.
    assert commands["upkeep"].startswith("nice -n 10 ")
    ours = [commands[name].removeprefix("nice -n 10 ") for name in ("web", "worker", "upkeep", "beat")]
    assert {os.path.dirname(command.split(" ")[0]) for command in ours} == {os.path.dirname(sys.executable)}


def test_up_raises_the_limit_of_open_files() -> None:
    """Run in another process, because the limit applies to a whole process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = (
        "import resource; from config.processes.supervise import allow_many_files\n"
        "for _ in range(2): allow_many_files()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    command = ["sh", "-c", 'ulimit -Sn 512; exec "$0" -c "$1"', sys.executable, program]
    soft = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]
    assert 512 < int(soft) == min(hard, 65536)
