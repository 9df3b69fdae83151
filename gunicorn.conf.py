"""How the application is served: `gunicorn wsgi:app` reads this file, in development and in production alike."""

import contextlib
import gc
import json
import os
import sys
import uuid
from importlib import import_module
from pathlib import Path
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker
from sqlalchemy import make_url

from config import Config, ConfigError

# Before any worker is forked, so that a wrong setting is one line and not a traceback from each of them.
try:
    _config = Config.from_environment()
except ConfigError as _error:
    sys.exit(f"catalog-api: {_error}")
# A worker reads the settings' definitions again, and so does this file at a reload.
del sys.modules["config"]

#: What the application stands on. The master loads it once and the workers share it; they load the application itself,
#: so that a reload picks up its new code (decision 22).
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
    # Where rich is installed, structlog would load it for a kind of traceback that we do not show, in 5 MiB. None is
    # Python's way to say that there is no such module.
    sys.modules["rich"] = None
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


class Worker(ThreadWorker):
    """gthread, with its refusals in the form of the application's, and a Ctrl-C that does not hang."""

    def handle_quit(self, sig: int, frame: Any) -> None:
        # base.Worker's own raises SystemExit wherever the main thread happens to be. Within ThreadPoolExecutor.submit()
        # that leaves a lock held or a thread that nobody will wake, and one stop in twenty lasted for the whole
        # graceful_timeout. So Ctrl-C is as orderly as SIGTERM: what was accepted is answered.
        self.handle_exit(sig, frame)

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:
            # A worker that answers its last requests would otherwise hold the door open: clients would connect, and
            # wait for nobody. Refused, they go to another server at once; after SIGHUP the new workers hold it open.
            for listener in self.sockets:
                listener.close()

    # gunicorn's own answers are HTML pages that quote the input, and 501 where the input names an unknown coding.
    def handle_error(self, _req: Any, client: Any, _addr: Any, error: Exception) -> None:
        status, title, code = _describe(error)
        if status == 500:
            self.log.error("A request failed outside the application", exc_info=error)
        request_id = uuid.uuid4().hex
        problem = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": "The request cannot be read." if status < 500 else "The server failed to answer this.",
            "code": code,
            "request_id": request_id,
        }
        body = json.dumps(problem)
        head = (
            f"HTTP/1.1 {status} {title}",
            "Connection: close",
            "Cache-Control: no-store",
            "Content-Type: application/problem+json",
            f"Content-Length: {len(body)}",
            "X-Content-Type-Options: nosniff",
            f"X-Request-ID: {request_id}",
        )
        # Who sends such things is often gone before the answer.
        with contextlib.suppress(OSError):
            util.write_nonblock(client, "\r\n".join((*head, "", body)).encode())


def _describe(error: Exception) -> tuple[int, str, str]:
    # RFC 9110's phrases, which http.HTTPStatus has only since Python 3.13.
    match error:
        case errors.LimitRequestLine():
            return 414, "URI Too Long", "uri_too_long"
        case errors.LimitRequestHeaders():
            return 431, "Request Header Fields Too Large", "request_header_fields_too_large"
        case errors.ExpectationFailed():
            return 417, "Expectation Failed", "expectation_failed"
        case errors.InvalidResponseHeader() | errors.InvalidResponseHeaderName():
            return 500, "Internal Server Error", "internal_server_error"
        case errors.ParseException():
            return 400, "Bad Request", "malformed"
    return 500, "Internal Server Error", "internal_server_error"


bind = f"[{_config.host}]:{_config.port}" if ":" in _config.host else f"{_config.host}:{_config.port}"
worker_class = Worker
workers = _config.web_concurrency
threads = _config.web_threads

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
# that anybody on this machine puts into a header.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}

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
    gc.freeze()
    gc.enable()
    if _config.works_within:
        # Not at the top: what the master has imported, a reload would not pick up.
        from app.api.tasks import TASKS  # noqa: PLC0415
        from app.core.worker import start_thread  # noqa: PLC0415

        worker.stop_jobs = start_thread(TASKS, worker.wsgi.app_context)


def worker_exit(_server: Any, worker: Any) -> None:
    """Let a job finish the step that it is at."""
    if hasattr(worker, "stop_jobs"):
        worker.stop_jobs()
