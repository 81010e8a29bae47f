"""What a log tells of an error: where it comes from, and nothing of what it was about."""

import json
import logging
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from service.errors import ConfigurationError
from service.logs import Formatter, configure, locate, redact, told

SAID = "ada@hoekstra.example"


def failure() -> BaseException:
    try:
        try:
            raise KeyError(SAID)
        except KeyError as error:
            raise ValueError(f"no such {SAID}") from error
    except ValueError as error:
        return error


def test_an_error_is_told_by_kind_and_place_with_what_led_to_it() -> None:
    text = told(failure())
    assert SAID not in text
    assert text.index("builtins.KeyError") < text.index("builtins.ValueError")
    assert Path(__file__).name in text


def test_a_mistake_in_the_configuration_is_told_in_full() -> None:
    assert "set PROVISIONER_X" in told(ConfigurationError("set PROVISIONER_X"))


def test_an_error_that_leads_to_itself_is_told_once() -> None:
    first, second = ValueError(SAID), KeyError(SAID)
    first.__context__, second.__context__ = second, first
    assert told(first).count("ValueError") == 1


@pytest.mark.parametrize("form", ["exception", "tuple", "true"])
def test_logs_in_json_hold_no_message_of_an_error(form: str) -> None:
    error = failure()
    given: object = {"exception": error, "tuple": (type(error), error, error.__traceback__)}.get(
        form, True
    )
    try:
        raise error
    except ValueError:
        entry = locate(None, "error", {"event": "lanes.failed", "exc_info": given})
    written = structlog.processors.JSONRenderer()(None, "error", redact(None, "error", entry))
    assert SAID not in str(written)
    assert "builtins.ValueError" in json.loads(written)["exception"]


def test_errors_that_libraries_log_hold_no_message_either() -> None:
    try:
        raise failure()
    except ValueError:
        record = logging.LogRecord("uvicorn", 40, "", 0, "it failed", None, sys.exc_info())
    written = Formatter("%(name)s: %(message)s").format(record)
    assert written.startswith("uvicorn: it failed\n")
    assert SAID not in written
    assert "builtins.ValueError" in written


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_log_for_either_reader_shows_no_variable_of_a_frame(
    form: Literal["json", "text"], capsys: pytest.CaptureFixture[str]
) -> None:
    kept, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    try:
        configure(form, "info")
        fail_with(structlog.get_logger(), SAID)
        renderer = structlog.get_config()["processors"][-1]
        bare = renderer(None, "error", {"event": "failed", "exc_info": failure_with(SAID)})
    finally:
        structlog.configure(**kept)
        logging.getLogger().handlers[:] = handlers
    written = capsys.readouterr().err
    assert "builtins.ValueError" in written
    assert SAID not in written
    assert SAID not in str(bare), "nor where no processor took it out before"


def fail_with(log: Any, said: str) -> None:
    try:
        raise ValueError(len(said))
    except ValueError:
        log.exception("failed")


def failure_with(said: str) -> BaseException:
    try:
        raise ValueError(len(said))
    except ValueError as error:
        return error
