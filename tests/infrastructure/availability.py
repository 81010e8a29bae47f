"""What makes a component impossible to start here, and whether a container engine is at hand."""

import subprocess
import sys

_PING = "from testcontainers.core.docker_client import DockerClient as C; C().client.ping()"


class UnavailableError(Exception):
    """The component cannot be had on this machine; the text says what to install or set."""


def container_engine_answers(timeout: float = 20) -> bool:
    """True where testcontainers would reach an engine.

    Asked in a process of its own: a failed attempt leaves an unclosed socket and its warning behind.
    """
    try:
        ping = subprocess.run(
            [sys.executable, "-c", _PING], capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return ping.returncode == 0
