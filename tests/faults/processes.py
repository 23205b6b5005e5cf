"""A stack's processes by their part in it."""

from dataclasses import dataclass

import psutil

from tests.e2e.stack import Stack

_WORDS = {
    "redis": ("redis-server",),
    "web": ("granian", "--interface"),
    "worker": ("celery", "worker@%h"),
    "upkeep": ("celery", "upkeep@%h"),
    "beat": ("celery", "beat"),
}
_NO_WORKERS = ("resource_tracker", "semaphore_tracker")


@dataclass(frozen=True, slots=True)
class Family:
    """A supervised process and those that it started to do its work."""

    parent: psutil.Process
    children: list[psutil.Process]


def families(stack: Stack) -> dict[str, Family]:
    """What runs just now under the stack's supervisor, by name."""
    assert stack.process is not None
    found: dict[str, Family] = {}
    for supervisor in psutil.Process(stack.process.pid).children():
        for process in supervisor.children():
            try:
                line = process.cmdline()
                name = next((name for name, words in _WORDS.items() if _has(line, words)), None)
                if name is not None and process.status() != psutil.STATUS_ZOMBIE:
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


def unwell(stack: Stack, expected: dict[str, int]) -> str | None:
    """What is wrong with the stack's processes: one is missing, is too many, stands still, or lost its parent."""
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
                return f"{process.pid} stands still"
            if process not in known and "tests.faults.hand" not in process.cmdline():
                return f"{process.pid} belongs to nobody: {' '.join(process.cmdline())}"
        except psutil.Error:
            continue
    return None
