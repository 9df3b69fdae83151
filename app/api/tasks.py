"""The table of background tasks, by the kind of job that they run."""

from collections.abc import Mapping

from app.core.jobs import Task
from app.features.imports import tasks as imports
from app.features.imports.service import KIND

TASKS: Mapping[str, Task] = {
    KIND: Task(imports.run_import, imports.clear_away),
}
