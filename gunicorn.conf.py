"""How the application is served: `gunicorn wsgi:app` reads this file, in development and in production alike."""

import contextlib
import gc
import os
import resource
import runpy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from gunicorn_worker import Worker

# Run and not imported: workers would inherit the module, and a reload would not see a new release's settings.
_settings = runpy.run_path(str(Path(__file__).with_name("config.py")))
# Before any worker is forked, so that a wrong setting is one line and not a traceback from each of them.
try:
    _config = _settings["Config"].from_environment()
except _settings["ConfigError"] as _error:
    sys.exit(f"catalog-api: {_error}")
for _line in _settings["unknown_settings"](os.environ):
    sys.stderr.write(f"catalog-api: {_line}\n")

#: What the application stands on. The master loads it once and the workers share it; they load the application itself,
#: so that a reload picks up its new code (decision 27).
LIBRARIES = (
    "argon2",
    "email_validator",
    "flask_caching",
    "flask_cors",
    "flask_jwt_extended",
    "flask_limiter",
    "flask_sqlalchemy",
    "joserfc.jwk",
    "marshmallow",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "structlog",
)


def _load_libraries() -> None:
    for name in LIBRARIES:
        import_module(name)
    # A driver that is not installed is the worker's to complain of.
    with contextlib.suppress(ImportError):
        make_url(_config.database_url).get_dialect().import_dbapi()


# Of what is loaded hardly anything becomes garbage, and looking for some is a tenth of the work. Frozen, it is not
# looked through later either, which would be a write to each page that master and workers share.
gc.disable()
_load_libraries()
gc.freeze()
gc.enable()


bind = f"[{_config.host}]:{_config.port}" if ":" in _config.host else f"{_config.host}:{_config.port}"
worker_class = Worker
workers = _config.web_concurrency
threads = _config.web_threads

#: Connections that a worker holds at most, where the system lets it have the files.
MAX_CONNECTIONS = 1000
#: Files that it needs beside: logs, pipes, modules that are being loaded; and for each thread database connections
#: (SQLite's have three files each), one to Redis and an upload.
OTHER_FILES, FILES_OF_A_THREAD = 64, 12


def _connections() -> int:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(most - OTHER_FILES - FILES_OF_A_THREAD * threads, threads + 1))


worker_connections = _connections()

# No database connection or lock is shared across a fork, and SIGHUP picks up new code.
preload_app = False

# A worker whose main loop has not moved for this long is replaced. A stuck request does not stop that loop; the
# timeouts on database statements and locks do that part.
timeout = 30
# SIGTERM: what was accepted has this long to be answered. Longer than the longest statement the database allows.
graceful_timeout = 20
# Longer than nginx keeps an idle connection to us, so that it never sends a request down one that we just closed.
keepalive = 75

# The heartbeat file belongs in memory: on a slow disk it can block the worker it watches over.
if Path("/dev/shm").is_dir() and os.access("/dev/shm", os.W_OK):  # noqa: S108
    worker_tmp_dir = "/dev/shm"  # noqa: S108

limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190

# Who stands in front is the application's TRUSTED_PROXIES; gunicorn by itself would believe the scheme and the path
# that anybody on this machine puts into a header. It believes nothing, whoever says it, and so need not parse the
# address of each client.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = "*"

# The application writes one line for each request; this is for the server's own.
accesslog = None
errorlog = "-"
loglevel = "info"

# Since gunicorn 25.1 it would open a socket in the home folder that accepts commands.
control_socket_disable = True


def post_fork(_server: Any, _worker: Any) -> None:
    """Let the worker load the application as the master has loaded the libraries."""
    gc.disable()


def post_worker_init(worker: Any) -> None:
    """Do the background jobs beside the requests, where no worker of their own does; leases keep several apart."""
    # Not at the top, as below: what the master has imported, a reload would not pick up.
    from app.core.breaker import breaker  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    worker.client_timeout = _config.client_timeout
    if not _config.is_sqlite and threads > 1:
        # One of several answers what needs no database while the others wait for theirs.
        breaker.places = threads - 1
    if _config.works_within:
        from app.api.tasks import TASKS  # noqa: PLC0415
        from app.core.worker import start_thread  # noqa: PLC0415

        worker.stop_jobs = start_thread(TASKS, worker.wsgi.app_context)


def worker_exit(_server: Any, worker: Any) -> None:
    """Let a job finish the step that it is at."""
    if hasattr(worker, "stop_jobs"):
        worker.stop_jobs()
