"""The table of background tasks, by the kind of job that they run, and of what makes jobs due."""

from collections.abc import Mapping, Sequence
from functools import partial

from app.api import pruning
from app.api.pruning import KIND as PRUNE
from app.core.jobs import Task
from app.core.scheduling import Source
from app.features.attributes.service import INDEX
from app.features.imports import images as import_images
from app.features.imports import service as import_service
from app.features.imports import tasks as imports
from app.features.imports.service import KIND as IMPORT
from app.features.media import processing, removal, settling
from app.features.media.references import KIND as MEDIA
from app.features.media.service import REMOVAL as MEDIA_REMOVAL
from app.features.passwords import tasks as passwords
from app.features.passwords.service import KIND as PASSWORD_RESET
from app.features.products import pictures
from app.features.products import tasks as products
from app.features.webhooks import dispatch as webhook_dispatch
from app.features.webhooks import tasks as webhooks
from app.features.webhooks.service import DELIVER as WEBHOOK
from app.features.webhooks.service import REPLAY as WEBHOOK_REPLAY

#: Tasks that take as long as there is work to do.
BATCHES: Mapping[str, Task] = {
    PRUNE: Task(pruning.run_prune, every=pruning.EVERY),
    IMPORT: Task(imports.run_import, imports.end_import, retry_refusal=import_service.retry_refusal),
    INDEX: Task(products.index_attribute),
    WEBHOOK_REPLAY: Task(webhooks.replay),
    MEDIA_REMOVAL: Task(removal.remove_deleted, every=removal.EVERY),
    removal.ORPHANS: Task(removal.remove_orphaned, every=removal.ORPHANS_EVERY),
    settling.KIND: Task(partial(pictures.follow, also=import_images.settle)),
}
#: Tasks that wait for servers of pictures, which may hang, and then decode one picture at a time.
PICTURES: Mapping[str, Task] = {MEDIA: Task(processing.process, processing.end)}
#: Tasks that wait for the mail server, which may hang.
LETTERS: Mapping[str, Task] = {PASSWORD_RESET: Task(passwords.send_reset)}
#: Tasks that wait for the endpoints of webhooks, of which many may hang at once.
WEBHOOKS: Mapping[str, Task] = {WEBHOOK: Task(webhooks.deliver)}
#: The tasks of each lane, by its name. A worker runs each lane in threads of its own, so that no letter waits for a
#: long import or for endpoints that hang, and no import for a mail server that does.
LANES: Mapping[str, Mapping[str, Task]] = {
    "batches": BATCHES,
    "letters": LETTERS,
    "media": PICTURES,
    "webhooks": WEBHOOKS,
}
#: How many times as many threads a lane has. A webhook waits for another server nearly all of its time, and an endpoint
#: that hangs holds a thread until it is paused.
WIDTHS: Mapping[str, int] = {"webhooks": 4}
TASKS: Mapping[str, Task] = {**BATCHES, **LETTERS, **PICTURES, **WEBHOOKS}
#: What each worker calls about once a second, before it looks for jobs: a source turns what is in other tables into due
#: jobs, for example with `jobs.wake`.
SOURCES: Sequence[Source] = (webhook_dispatch.look_for_work, settling.look_for_unsettled)
