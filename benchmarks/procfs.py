"""What processes have used, as Linux tells it in /proc: CPU time and private memory, of a process and all below it."""

import os
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM = 1, 11, 12, 13, 14


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; the name before it may hold blanks and brackets."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()


def parent_of(pid: int) -> int:
    """The process that started this one."""
    return int(_stat(pid)[_PARENT])


def family(pid: int) -> list[int]:
    """A process and all its descendants that live, itself first."""
    members = [pid]
    for member in members:
        try:
            tasks = list(Path(f"/proc/{member}/task").iterdir())
            children = [child for task in tasks for child in (task / "children").read_text("utf-8").split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        members.extend(int(child) for child in children)
    return members


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and all below it, the dead children that were waited for included."""
    ticks = 0
    for member in family(pid):
        try:
            fields = _stat(member)
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(int(fields[place]) for place in (_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM))
    return ticks * _TICK


def private_mib(pid: int) -> float:
    """The memory that a process shares with nobody, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def private_mib_of_workers(pid: int, workers: int) -> float:
    """The mean private memory of the ``workers`` largest processes below this one, in MiB."""
    largest = sorted((private_mib(member) for member in family(pid)[1:]), reverse=True)[:workers]
    return sum(largest) / len(largest)
