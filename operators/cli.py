"""The command ``provisioner``: what there is, and how every command ends.

Exit status: 0 done, 1 something failed, 2 wrong usage; 130 after Ctrl-C. Modules that take long to
import are imported by the commands that need them.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from typer.main import get_command

from operators.commands import (
    audit,
    doctor,
    drift,
    events,
    org,
    outcomes,
    processes,
    staged,
    user,
    user_import,
)
from service.version import VERSION

_CANCELLED: Final = 130
_FAILED: Final = 1

app = typer.Typer(
    name="provisioner",
    help="Keeps a B2B product's users right in Auth0, from SCIM 2.0 and HR events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("dev")(processes.dev)
app.command("serve")(processes.serve)
app.command("simulator")(processes.simulator)
app.add_typer(org.app, name="org")
events.app.command("approve")(staged.approve)
events.app.command("refuse")(staged.refuse)
app.add_typer(events.app, name="events")
app.command("outcomes")(outcomes.outcomes)
user.app.command("import")(user_import.import_)
user.app.command("imports")(user_import.imports)
app.add_typer(user.app, name="user")
app.add_typer(drift.app, name="drift")
app.command("doctor")(doctor.doctor)
app.add_typer(processes.db, name="db")
app.command("audit")(audit.audit)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"provisioner {VERSION}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_tell_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    del version  # its callback has seen to it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status. Never a traceback for what can be expected."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status: Any = _main()(args=given, prog_name="provisioner", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has gone (`| head`): the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except SystemExit as ended:  # Typer's own way out of a broken pipe
        return ended.code if isinstance(ended.code, int) else _FAILED
    except (KeyboardInterrupt, typer.Abort):
        return _CANCELLED
    except typer.TyperException as error:
        show: Callable[[], None] = getattr(error, "show", lambda: None)
        show()
        return error.exit_code
    except Exception as error:
        return _expected(error)
    return status if isinstance(status, int) else 0


@functools.cache
def _main() -> Callable[..., Any]:
    """Made once: reading what all commands take is slower than most of them are."""
    return get_command(app).main


def _expected(error: Exception) -> int:
    """One line for an error that tells its reader what to do; anything else is a fault of ours."""
    from operators.installation import NoInstallation
    from service.errors import ProvisionerError

    if isinstance(error, ProvisionerError):
        sys.stderr.write(f"provisioner: {error}\n")
        return 2 if isinstance(error, NoInstallation) else 1
    if isinstance(error, OSError) and error.filename is not None:
        sys.stderr.write(f"provisioner: {error.filename}: {error.strerror}\n")
        return _FAILED
    from service.directory.database import is_unavailable

    if is_unavailable(error):
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()
        said = reason[0] if reason else type(error).__name__
        sys.stderr.write(f"provisioner: the database does not answer: {said}\n")
        return 1
    raise error
