"""The Celery entry point with the tasks of `tests.live.working`."""

from tests.live import working

working.register()

from worker import app  # noqa: E402 -- it takes over the tasks as they are

__all__ = ["app"]
