"""The operators' console: pages rendered on the server, read-only."""

from operators.console.pages import routes

__all__ = ["routes"]
