"""Closes a client's TCP connection without an answer, as a crashing gateway would.

Reaches for uvicorn's transport, which ASGI hides. Where there is no socket, in process, the caller
gets the exception that httpx raises for such a connection.
"""

from typing import Protocol, runtime_checkable

import httpx
from starlette.types import Receive


@runtime_checkable
class _Abortable(Protocol):
    def abort(self) -> None: ...


async def until_gone(receive: Receive) -> None:
    """Wait until the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def drop(receive: Receive) -> None:
    """Close the connection now. Raises httpx.RemoteProtocolError where there is no socket."""
    # Under uvicorn `receive` is a method of the cycle that holds the transport.
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if not isinstance(transport, _Abortable):
        raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
    transport.abort()
    # uvicorn answers 500 for a silent application unless it has seen the end of the connection.
    await until_gone(receive)
