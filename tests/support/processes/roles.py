"""Find the processes of a stack by their role."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:  # the stack imports this module, too
    from tests.support.processes.stack import Stack

_WORDS = {
    "redis": ("valkey-server",),
    "web": ("granian", "--interface"),
    "worker": ("run_celery", "worker"),
    "upkeep": ("run_celery", "upkeep"),
    "beat": ("run_celery", "beat"),
}
_NO_WORKERS = ("resource_tracker", "semaphore_tracker")


@dataclass(frozen=True, slots=True)
class Family:
    """A supervised process and its worker processes."""

    parent: psutil.Process
    children: list[psutil.Process]


def programs(stack: "Stack") -> dict[str, psutil.Process]:
    """Return the processes that run under the stack's supervisor now, by name."""
    assert stack.process is not None
    own = stack.process.pid
    below = [(process, _parent(process)) for process in psutil.Process(own).children(recursive=True)]
    supervisors = {process.pid for process, parent in below if parent == own}
    found: dict[str, psutil.Process] = {}
    for process, parent in below:
        try:
            if parent in supervisors and process.status() != psutil.STATUS_ZOMBIE:
                line = process.cmdline()
                found |= {name: process for name, words in _WORDS.items() if _has(line, words)}
        except psutil.Error:
            continue
    return found


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def families(stack: "Stack") -> dict[str, Family]:
    """Return the processes under the stack's supervisor, each with its worker processes, by name."""
    found: dict[str, Family] = {}
    for name, process in programs(stack).items():
        try:
            found[name] = Family(process, _workers_of(process))
        except psutil.Error:
            continue
    return found


def _has(line: list[str], words: tuple[str, ...]) -> bool:
    return all(any(word in part for part in line) for word in words)


def _workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [
        child
        for child in process.children()
        if child.status() != psutil.STATUS_ZOMBIE and not _has(child.cmdline(), _NO_WORKERS[:1])
    ]


def unwell(stack: "Stack", expected: dict[str, int]) -> str | None:
    """Return what is wrong with the stack's processes: one is missing, stopped or orphaned, or there are too many."""
    running = families(stack)
    for name, count in expected.items():
        family = running.get(name)
        if family is None:
            return f"no {name}"
        if len(family.children) != count:
            return f"{name} has {len(family.children)} children, not {count}"
    assert stack.process is not None
    own = psutil.Process(stack.process.pid)
    known = {own, *own.children(recursive=True)}
    for process in stack.processes():
        try:
            if process.status() == psutil.STATUS_STOPPED:
                return f"{process.pid} is stopped"
            if process not in known and "tests.faults.actors.operator_process" not in process.cmdline():
                return f"{process.pid} has lost its parent: {' '.join(process.cmdline())}"
        except psutil.Error:
            continue
    return None
