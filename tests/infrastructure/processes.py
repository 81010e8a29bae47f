"""Child processes of the tests: start, wait until ready, stop by pid, show what they wrote.

A child ends with the process that started it, also when that one is killed (Linux).
"""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")

PROJECT_ROOT = Path(__file__).resolve().parents[2]
_DIRECTORY_PREFIX = "provisioner-tests-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningProcess:
    """A child of the tests with its standard output and error in files."""

    name: str
    popen: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; -N after signal N."""
        return self.popen.poll()

    def ready_line(self, within: float = 30) -> dict[str, Any]:
        """The first line on standard output, a JSON object with `"ready": true`.

        Raises AssertionError, with the end of standard error, when the process ends first,
        prints something else or takes longer than `within` seconds.
        """
        deadline = time.monotonic() + within
        while True:
            ended = self.exit_status is not None  # asked before reading, or its last line is missed
            line, newline, _ = self.stdout.read_bytes().partition(b"\n")
            if newline:
                break
            if ended:
                raise AssertionError(f"ended with {self.exit_status} before it was ready\n{self}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready after {within} s\n{self}")
            time.sleep(0.02)
        try:
            message: object = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise AssertionError(f"not a ready line: {line!r}\n{self}")
        ready = cast("dict[str, Any]", message)
        if ready.get("ready") is not True:
            raise AssertionError(f"not a ready line: {line!r}\n{self}")
        return ready

    def wait(self, within: float = 30) -> int:
        """The exit status, once it ended by itself; AssertionError after `within` seconds."""
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within} s\n{self}") from None

    def kill(self) -> None:
        """SIGKILL, then wait."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, ask: signal.Signals = signal.SIGTERM, within: float = 20) -> int:
        """Ask by signal, kill after `within` seconds; the exit status (-9 when it had to be killed)."""
        if self.popen.poll() is None:
            self.popen.send_signal(ask)
            try:
                self.popen.wait(within)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.wait()

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}), end of {self.stderr}:\n{tail(self.stderr)}"


def start(
    command: Sequence[str | Path],
    *,
    name: str,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    working_directory: Path | None = None,
    when_orphaned: signal.Signals = signal.SIGKILL,
    user: str | None = None,
) -> RunningProcess:
    """Start `command`, writing `name`.stdout and `name`.stderr (appended to) in `directory`.

    Call it from the main thread: the child gets `when_orphaned` when the thread that started it
    ends. `environment` replaces ours where given. `user` names the account to run under and needs
    root. The caller stops it.
    """
    stdout, stderr = directory / f"{name}.stdout", directory / f"{name}.stderr"
    with stdout.open("wb") as out, stderr.open("ab") as err, _heeding_interrupts():
        popen = subprocess.Popen(
            [*_launcher(when_orphaned, user), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            cwd=working_directory or PROJECT_ROOT,
        )
    return RunningProcess(name=name, popen=popen, stdout=stdout, stderr=stderr)


def provisioner(*arguments: str | Path) -> list[str]:
    """The command line of our own program, run from this work tree by this interpreter."""
    return [sys.executable, "-m", "operators", *map(str, arguments)]


def tail(file: Path, characters: int = 4_000) -> str:
    text = file.read_text(errors="replace") if file.exists() else ""
    return text[-characters:]


@contextlib.contextmanager
def scratch_directory(purpose: str) -> Generator[Path]:
    """A directory removed at the end; those of test runs that were killed are removed at the start.

    Other users may enter it, not list it.
    """
    parent = Path(tempfile.gettempdir())
    for stale in parent.glob(f"{_DIRECTORY_PREFIX}*"):
        owner = stale.name.removeprefix(_DIRECTORY_PREFIX).partition("-")[0]
        if owner.isdigit() and not _lives(int(owner)):
            shutil.rmtree(stale, ignore_errors=True)
    prefix = f"{_DIRECTORY_PREFIX}{os.getpid()}-{purpose}-"
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def run_apart(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to its end in a loop of its own, leaving the thread's current loop as it is."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)


@contextlib.contextmanager
def _heeding_interrupts() -> Generator[None]:
    """A child inherits that SIGINT is ignored, and a shell's `pytest &` ignores it."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _launcher(when_orphaned: signal.Signals, user: str | None) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if user is not None:
            raise FileNotFoundError("setpriv (util-linux) is needed to run as another user")
        return []
    command = [setpriv, "--pdeathsig", when_orphaned.name.removeprefix("SIG")]
    if user is not None:
        group = str(pwd.getpwnam(user).pw_gid)
        command += ["--reuid", user, "--regid", group, "--init-groups"]
    return [*command, "--"]
