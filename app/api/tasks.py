"""The table of background tasks, by the kind of job that they run."""

from collections.abc import Mapping

from app.core.jobs import Task
from app.features.imports import tasks as imports
from app.features.imports.service import KIND as IMPORT
from app.features.passwords import tasks as passwords
from app.features.passwords.service import KIND as PASSWORD_RESET

#: Tasks that take as long as there is work to do.
BATCHES: Mapping[str, Task] = {
    IMPORT: Task(imports.run_import, imports.clear_away),
}
#: Tasks that wait for a mail server. `flask worker` runs them in a thread of their own, so that no letter waits for a
#: long import, and no import for a mail server that hangs.
LETTERS: Mapping[str, Task] = {
    PASSWORD_RESET: Task(passwords.send_reset),
}
TASKS: Mapping[str, Task] = {**BATCHES, **LETTERS}
