"""What a receiver's answer means."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from service.retrying import delay_after
from service.security_events.receiver import ERRORS, Answer, Verdict, judge

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


def verdict(status: int | None, *, attempts: int = 0, body: bytes = b"") -> Verdict:
    return judge(Answer(status=status, body=body), attempts=attempts, now=NOW).verdict


def test_only_202_says_that_a_token_has_arrived() -> None:
    delivered = [status for status in range(200, 600) if verdict(status) == "delivered"]
    assert delivered == [202]


@pytest.mark.parametrize("err", sorted(ERRORS))
def test_the_errors_of_rfc_8935_refuse_at_once(err: str) -> None:
    body = orjson.dumps({"err": err, "description": "Why."})
    judged = judge(Answer(status=400, body=body), attempts=0, now=NOW)
    assert (judged.verdict, judged.code, judged.message) == ("refused", err, "Why.")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"err": "other"}', b'{"err": ["invalid_key"]}', b"\xff"]
)
def test_other_answers_of_400_are_tried_again_for_a_while(body: bytes) -> None:
    assert verdict(400, body=body) == "again"
    assert verdict(400, body=body, attempts=7) == "refused"


@pytest.mark.parametrize("status", [200, 204, 301, 307, 401, 403, 404, 405, 410, 415])
def test_what_does_not_look_like_a_receiver_is_refused_after_two_minutes(status: int) -> None:
    assert [verdict(status, attempts=attempts) for attempts in (0, 6, 7)] == [
        *("again", "again"),
        "refused",
    ]
    assert 120 < sum(delay_after(attempts) for attempts in range(7)) < 180


@pytest.mark.parametrize("status", [None, 408, 425, 429, 500, 502, 503, 504])
def test_who_is_busy_or_away_is_asked_for_ever(status: int | None) -> None:
    assert verdict(status, attempts=10_000) == "again"


@pytest.mark.parametrize(
    ("asked", "after"),
    [
        ("120", 120.0),
        ("0", 1.0),
        ("999999999999", 3600.0),
        ("Mon, 23 Nov 2026 09:02:00 GMT", 120.0),
        ("Mon, 23 Nov 2020 09:02:00 GMT", 1.0),
        ("soon", 4.0),
        ("-5", 4.0),
        ("", 4.0),
    ],
)
def test_retry_after_is_honoured_within_bounds(asked: str, after: float) -> None:
    judged = judge(Answer(status=429, retry_after=asked), attempts=2, now=NOW)
    assert judged.after == after


def test_each_failure_doubles_the_wait_up_to_five_minutes() -> None:
    waits = [delay_after(attempts) for attempts in range(12)]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(waits) == delay_after(100_000) == 300.0


def test_what_a_receiver_says_is_shown_briefly_and_without_control_characters() -> None:
    body = orjson.dumps({"err": "invalid_key", "description": "\x1b[31m" + "x" * 1000})
    message = judge(Answer(status=400, body=body), attempts=0, now=NOW).message
    assert message.isprintable()
    assert len(message) == 300
