"""Errors of the core. Each says what its caller must do; a door turns it into its protocol's form."""

from __future__ import annotations


class ProvisionerError(Exception):
    """Something went wrong; the docstring of the class is the message where none is given."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or type(self).__name__).split("\n", 1)[0])


class NotFound(ProvisionerError):
    """There is nothing with this id in this organization: correct the id."""


class UniquenessConflict(ProvisionerError):
    """Another resource of this organization holds this value: choose another, or change that one."""


class VersionConflict(ProvisionerError):
    """The resource has changed since it was read: read it again, then repeat."""


class Refused(ProvisionerError):
    """The request cannot be accepted as it is: correct it, do not repeat it."""


class LostLease(ProvisionerError):
    """Another process owns this now: stop, and write nothing more."""


class ConfigurationError(ProvisionerError):
    """The configuration is wrong: mend what the message names, then start again."""
