"""gunicorn's settings: `gunicorn wsgi:app` reads this file, in development and in production."""

import contextlib
import gc
import os
import re
import resource
import runpy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from gunicorn import glogging
from sqlalchemy import make_url

from gunicorn_worker import Worker

# Run and not imported: workers would inherit the imported module, so that a reload would miss a new release's
# settings.
_settings = runpy.run_path(str(Path(__file__).with_name("config.py")))
_metric_files = runpy.run_path(str(Path(__file__).parent / "app" / "core" / "metric_files.py"))
# Before any worker is forked, so that an invalid setting is one line and not a traceback of each worker.
try:
    _config = _settings["Config"].from_environment()
except _settings["ConfigError"] as _error:
    sys.exit(f"catalog-api: {_error}")
for _line in _settings["unknown_settings"](os.environ):
    sys.stderr.write(f"catalog-api: {_line}\n")
# Checking a key file or a list of hosts imports modules of the application, which workers would inherit as well.
for _name in [_name for _name in sys.modules if _name.partition(".")[0] == "app"]:
    del sys.modules[_name]

#: The application's libraries. The master imports them once, and the workers share their memory; each worker imports
#: the application itself, so that a reload picks up its new code (decision 27).
LIBRARIES = (
    "PIL.AvifImagePlugin",
    "PIL.GifImagePlugin",
    "PIL.ImageCms",
    "PIL.ImageSequence",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.WebPImagePlugin",
    "argon2",
    "authlib.oauth2.rfc6749.grants",
    "authlib.oauth2.rfc7009",
    "authlib.oauth2.rfc7636",
    "authlib.oauth2.rfc7662",
    "authlib.oidc.core",
    "authlib.oidc.discovery",
    "cryptography.fernet",
    "cryptography.hazmat.primitives.kdf.hkdf",
    "email_validator",
    "flask_caching",
    "flask_cors",
    "flask_jwt_extended",
    "flask_limiter",
    "flask_sock",
    "flask_sqlalchemy",
    "httpcore2",
    "httpx2",
    "iso4217",
    "joserfc.jwk",
    "marshmallow",
    "prometheus_client.multiprocess",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "stamina",
    "structlog",
)


#: And where OTEL_EXPORTER_OTLP_ENDPOINT is set, those that record and send spans.
TRACING_LIBRARIES = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.trace.export",
    "requests",
)


def _load_libraries() -> None:
    for name in (*LIBRARIES, *(TRACING_LIBRARIES if _config.otel_exporter_otlp_endpoint else ())):
        import_module(name)
    # The worker reports a driver that is not installed.
    with contextlib.suppress(ImportError):
        make_url(_config.database_url).get_dialect().import_dbapi()


# Hardly anything that is imported becomes garbage, and collecting is a tenth of the import's time. Frozen objects are
# not scanned later either, which would write to, and so copy, each page that master and workers share.
gc.disable()
_load_libraries()
gc.freeze()
gc.enable()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


bind = [_address(_config.host, _config.port)]
if _config.metrics_port is not None:
    bind.append(_address(_config.metrics_host or _config.host, _config.metrics_port))
worker_class = Worker
workers = _config.web_concurrency
threads = _config.web_threads

#: Connections per worker beside its streams, where the limit on open files allows as many.
MAX_CONNECTIONS = 1000
#: Threads that refuse the streams which are too many.
REFUSING_THREADS = 4
#: Files that a worker needs besides: logs, pipes and modules that are being imported; and per thread the database
#: connections (SQLite's have three files each), one to Redis and an upload.
OTHER_FILES, FILES_PER_THREAD = 64, 12


def _connections() -> int:
    wanted, others = MAX_CONNECTIONS + _config.max_streams, OTHER_FILES + FILES_PER_THREAD * threads
    max_files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if max_files == resource.RLIM_INFINITY:
        return wanted
    if max_files < wanted + others:
        # Systems set the soft limit to 1024 for the sake of select(2), which is not used here.
        max_files = wanted + others if most == resource.RLIM_INFINITY else min(wanted + others, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, most))
    return min(wanted, max(max_files - others, threads + 1))


worker_connections = _connections()

# No database connection or lock is shared across a fork, and SIGHUP picks up new code.
preload_app = False

# Seconds without a heartbeat of its main thread after which a worker is replaced. A stuck request does not stop the
# main thread; the timeouts of database statements and locks end such a request.
timeout = 30
# Seconds after SIGTERM for accepted requests to finish: more than statement_timeout.
graceful_timeout = 20
# Seconds: longer than nginx's keepalive_timeout for upstreams (60), so that nginx never sends a request on a connection
# that has just been closed.
keepalive = 75

# The heartbeat file should be in memory: on a slow disk, updating it can block the worker.
if Path("/dev/shm").is_dir() and os.access("/dev/shm", os.W_OK):  # noqa: S108
    worker_tmp_dir = "/dev/shm"  # noqa: S108

limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190

# The application's TRUSTED_PROXIES decides which proxies are trusted. By default gunicorn trusts headers with scheme
# and path from any client on this machine. With no such headers it trusts none, whatever their sender; the * only saves
# parsing the address of each client.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = "*"

# The application logs each request; this is the server's own log.
accesslog = None
errorlog = "-"
loglevel = "info"

# By default gunicorn, since 25.1, opens a socket in the home directory that accepts commands.
control_socket_disable = True


def _describe(cfg: Any) -> str:
    # Of gunicorn's own configuration, since options of the command line take precedence over these settings.
    counts = (
        f"{number} {unit}{'s' * (number != 1)}" for number, unit in ((cfg.workers, "worker"), (cfg.threads, "thread"))
    )
    release = f"catalog-api {_settings['VERSION']} (commit {_config.commit})"
    return f"{release}, {_config.runs_on}, {' x '.join(counts)}"


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn is published without types
    """gunicorn's log. Its first line says what runs and on what, and so does one after a reload."""

    def setup(self, cfg: Any) -> None:
        """Configure the log, and write its first line."""
        super().setup(cfg)
        self.info(_describe(cfg))


logger_class = Logger


def on_starting(server: Any) -> None:
    """Have all workers count in a folder of this server's, which its first address names."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", f"catalog-metrics-{server.cfg.uid}-{server.cfg.bind[0]}")
    try:
        server.metrics_folder = _metric_files["open_folder"](name, uid=server.cfg.uid, gid=server.cfg.gid)
    except OSError as error:
        sys.exit(f"catalog-api: no folder for metrics can be made: {error.strerror}")
    os.environ[_metric_files["FOLDER"]] = str(server.metrics_folder.path)


def on_exit(server: Any) -> None:
    """Leave no files behind."""
    server.metrics_folder.close()


def post_fork(_server: Any, _worker: Any) -> None:
    """Import the application without garbage collection, as the master imported the libraries."""
    gc.disable()


def post_worker_init(worker: Any) -> None:
    """Configure the worker, and run background jobs in it where Config.runs_jobs_in_server says so.

    Several workers may run jobs: each job is leased to one.
    """
    # Not at the top, here and below: a reload does not pick up new code of what the master has imported.
    from app.core.breaker import breaker  # noqa: PLC0415
    from app.core.metrics import count_refused  # noqa: PLC0415 -- a reload picks it up
    from app.web.contract import live_paths  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    worker.client_timeout = _config.client_timeout
    worker.count_refusal = count_refused
    if not _config.is_sqlite and threads > 1:
        # One thread stays available for requests without the database while the others wait for it.
        breaker.places = threads - 1
    if _config.max_streams:
        worker.stream_threads = _config.max_streams + REFUSING_THREADS
    worker.stream_paths = live_paths(worker.wsgi)
    worker.wsgi.extensions["broadcaster"].is_stopping = lambda: not worker.alive
    if _config.runs_jobs_in_server:
        from app.api.tasks import LANES, SOURCES, WIDTHS  # noqa: PLC0415
        from app.core.lanes import start_crew  # noqa: PLC0415
        from app.core.workers import Presence, WorkerKind  # noqa: PLC0415 -- a reload picks it up

        presence = Presence(WorkerKind.SERVER, version=_settings["VERSION"])
        worker.stop_jobs = start_crew(LANES, worker.wsgi.app_context, widths=WIDTHS, sources=SOURCES, presence=presence)


def worker_exit(_server: Any, worker: Any) -> None:
    """Stop the job threads after their current step."""
    if hasattr(worker, "stop_jobs"):
        worker.stop_jobs()
