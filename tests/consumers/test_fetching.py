"""Asking an HR system about one worker: what each answer means, and what is never done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import ValidationError

from consumers.cloudevents import MAX_BYTES
from consumers.fetching import Answer, NoAnswer, ask, http_client
from service.clock import SystemClock
from service.enrichment import Enrichment
from tests.consumers.hr_system import Answered, HrSystem, listening

CLOCK = SystemClock()


@pytest.fixture
async def hr() -> AsyncIterator[HrSystem]:
    async with listening() as system:
        yield system


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as client:
        yield client


async def answer(
    http: httpx.AsyncClient, enrichment: Enrichment, worker_id: str = "77"
) -> Answer | NoAnswer:
    return await ask(http, enrichment, worker_id=worker_id, organization="hoekstra", clock=CLOCK)


async def test_the_answer_is_what_the_worker_is_now(hr: HrSystem, http: httpx.AsyncClient) -> None:
    hr.workers["/workers/77"] = {"id": 77, "email": "ann@hoekstra.example"}
    told = await answer(http, hr.enrichment(headers={"X-Version": "2"}))
    assert told == Answer(document={"id": 77, "email": "ann@hoekstra.example"})
    assert hr.asked[0].headers["accept"] == "application/json"
    assert hr.asked[0].headers["x-version"] == "2"


async def test_what_one_was_told_to_keep_is_never_sent_for_another(
    hr: HrSystem, http: httpx.AsyncClient
) -> None:
    """Customers of one HR system share its host: a session of one must not serve another."""
    hr.failures = [Answered(body=b"{}", headers=(("Set-Cookie", "session=acme; Path=/"),))]
    await answer(http, hr.enrichment())
    await answer(http, hr.enrichment(), "78")
    assert len(hr.asked) == 2
    assert "cookie" not in hr.asked[1].headers


async def test_many_who_hang_keep_no_other_system_from_being_asked(
    hr: HrSystem, http: httpx.AsyncClient
) -> None:
    hr.answers.clear()
    hanging = [asyncio.create_task(answer(http, hr.enrichment(), str(n))) for n in range(120)]
    await asyncio.sleep(0.3)
    async with listening() as other:
        other.workers["/workers/77"] = {"id": 77}
        assert await answer(http, other.enrichment(timeout=2)) == Answer(document={"id": 77})
    hr.answers.set()
    await asyncio.gather(*hanging)


@pytest.mark.parametrize("body", [b'{"name": "a\\u0000b"}', b"[" * 100 + b"]" * 100])
async def test_an_answer_that_no_event_may_hold_is_refused_as_one_would_be(
    hr: HrSystem, http: httpx.AsyncClient, body: bytes
) -> None:
    hr.workers["/workers/77"] = body
    told = await answer(http, hr.enrichment())
    assert isinstance(told, NoAnswer)
    assert (told.kind, told.code) == ("refused", "enrichment_unusable")


async def test_an_answer_may_begin_with_a_byte_order_mark(
    hr: HrSystem, http: httpx.AsyncClient
) -> None:
    hr.workers["/workers/77"] = b'\xef\xbb\xbf{"id": 77}'
    assert await answer(http, hr.enrichment()) == Answer(document={"id": 77})


async def test_who_is_read_by_post_is_asked_so(hr: HrSystem, http: httpx.AsyncClient) -> None:
    hr.workers["/employer/individual"] = {"responses": []}
    body = {"requests": [{"individual_id": "{worker_id}", "of": "{organization}", "n": 1}]}
    asks = hr.enrichment(url=hr.url + "/employer/individual", body=body)
    assert await answer(http, asks, 'a"b') == Answer(document={"responses": []})
    (asked,) = hr.asked
    assert (asked.method, asked.headers["content-type"]) == ("POST", "application/json")
    assert orjson.loads(asked.body) == {
        "requests": [{"individual_id": 'a"b', "of": "hoekstra", "n": 1}]
    }


@pytest.mark.parametrize("body", [{"id": "{id}"}, ["{worker_id}", "{x}"]])
def test_the_places_of_a_body_are_known(hr: HrSystem, body: Any) -> None:
    with pytest.raises(ValidationError, match="braces stand for"):
        hr.enrichment(body=body)


def test_the_worker_is_named_in_the_url_or_the_body(hr: HrSystem) -> None:
    with pytest.raises(ValidationError, match="in url or body"):
        hr.enrichment(url=hr.url + "/workers", body={"active": True})


@pytest.mark.parametrize(
    ("scheme", "secret", "sent"),
    [
        ("Bearer", "s3cret", "Bearer s3cret"),
        ("Basic", "user:pass", "Basic dXNlcjpwYXNz"),
        ("", "s3cret", "s3cret"),
    ],
)
async def test_the_credential_is_read_from_its_file_each_time(
    hr: HrSystem, http: httpx.AsyncClient, tmp_path: Path, scheme: str, secret: str, sent: str
) -> None:
    file = tmp_path / "secret"
    credential = {"file": str(file), "scheme": scheme, "header": "X-Key"}
    for content in (secret, secret + "\n"):
        file.write_text(content)
        await answer(http, hr.enrichment(credential=credential))
    assert [each.headers["x-key"] for each in hr.asked] == [sent, sent]


@pytest.mark.parametrize("content", [None, "", "two\nlines", "sécret"])
async def test_an_unusable_credential_is_sent_to_nobody(
    hr: HrSystem, http: httpx.AsyncClient, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    told = await answer(http, hr.enrichment(credential={"file": str(file)}))
    assert isinstance(told, NoAnswer)
    assert (told.kind, told.code) == ("denied", "enrichment_credential")
    assert hr.asked == []


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, "gone", "enrichment_not_found"),
        (410, "gone", "enrichment_not_found"),
        (401, "denied", "enrichment_denied"),
        (403, "denied", "enrichment_denied"),
        (429, "busy", "enrichment_unavailable"),
        (408, "unwell", "enrichment_unavailable"),
        (500, "unwell", "enrichment_unavailable"),
        (503, "unwell", "enrichment_unavailable"),
        (302, "refused", "enrichment_redirected"),
        (400, "refused", "enrichment_refused"),
        (204, "refused", "enrichment_refused"),
    ],
)
async def test_each_status_has_its_meaning(
    hr: HrSystem, http: httpx.AsyncClient, status: int, kind: str, code: str
) -> None:
    hr.failures = [Answered(status=status, body=b"", headers=(("Location", hr.url + "/other"),))]
    told = await answer(http, hr.enrichment())
    assert isinstance(told, NoAnswer)
    assert (told.kind, told.code, told.status) == (kind, code, status)
    assert told.is_final == (kind in ("gone", "refused"))
    assert len(hr.asked) == 1  # nor is a redirect followed


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("30", 30, 30),
        ("99999999999999999999", 3600, 3600),
        (timedelta(seconds=1800), 1500, 1800),
        (timedelta(days=-2), 0, 0),
    ],
    ids=["seconds", "too-many-seconds", "a-date", "a-date-that-is-past"],
)
async def test_a_wait_that_is_asked_for_is_told(
    hr: HrSystem, http: httpx.AsyncClient, said: str | timedelta, least: float, most: float
) -> None:
    if isinstance(said, timedelta):  # by the test's own moment: it may be a while since collection
        said = format_datetime(CLOCK.now() + said, usegmt=False)
    hr.failures = [Answered(status=429, headers=(("Retry-After", said),))]
    told = await answer(http, hr.enrichment())
    assert isinstance(told, NoAnswer)
    assert told.wait is not None
    assert least <= told.wait <= most


@pytest.mark.parametrize("said", ["soon", "", "-3", "Mon, 99 Foo 2026"])
async def test_a_wait_that_is_none_is_passed_over(
    hr: HrSystem, http: httpx.AsyncClient, said: str
) -> None:
    hr.failures = [Answered(status=503, headers=(("Retry-After", said),))]
    told = await answer(http, hr.enrichment())
    assert isinstance(told, NoAnswer)
    assert told.wait is None


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"<html>log in</html>", "unwell", "enrichment_not_json"),
        (b"", "unwell", "enrichment_not_json"),
        (b"[" * (MAX_BYTES + 1), "refused", "enrichment_too_large"),
    ],
)
async def test_what_is_no_document_is_no_answer(
    hr: HrSystem, http: httpx.AsyncClient, body: bytes, kind: str, code: str
) -> None:
    hr.workers["/workers/77"] = body
    told = await answer(http, hr.enrichment())
    assert isinstance(told, NoAnswer)
    assert (told.kind, told.code) == (kind, code)


async def test_an_answer_has_so_much_time_and_no_more(
    hr: HrSystem, http: httpx.AsyncClient
) -> None:
    hr.answers.clear()
    told = await answer(http, hr.enrichment(timeout=0.1))
    assert isinstance(told, NoAnswer)
    assert (told.kind, told.code) == ("unwell", "enrichment_unreachable")


async def test_nobody_there_is_no_answer(http: httpx.AsyncClient) -> None:
    nobody = Enrichment(url="http://127.0.0.1:1/{worker_id}")
    told = await answer(http, nobody)
    assert isinstance(told, NoAnswer)
    assert told.kind == "unwell"


@pytest.mark.parametrize(
    ("worker_id", "path"),
    [
        ("77/../admin", "/workers/77%2F..%2Fadmin"),
        ("a?b#c", "/workers/a%3Fb%23c"),
        ("..", "/workers/%2E%2E"),
        ("é {worker_id}", "/workers/%C3%A9%20%7Bworker_id%7D"),
    ],
)
async def test_a_worker_id_stays_one_piece_of_the_path(
    hr: HrSystem, http: httpx.AsyncClient, worker_id: str, path: str
) -> None:
    await answer(http, hr.enrichment(), worker_id)
    assert hr.asked[0].path == path


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "https://hr.example/employees"},
        {"url": "https://{worker_id}.hr.example/"},
        {"url": "https://{organization}/{worker_id}"},
        {"url": "http://hr.example/{worker_id}"},
        {"url": "https://user:secret@hr.example/{worker_id}"},
        {"url": "https://hr.example/{worker_id.__class__}"},
        {"url": "https://hr.example/{worker_id}/{other}"},
        {"url": "https://hr.example/{worker_id!r}"},
        {"url": "https://hr.example/{worker_id:>9}"},
        {"url": "https://hr.example/{worker_id}/{}"},
        {"url": "https://hr.example/{worker_id}}"},
        {"url": "https://hr.example/{worker_id"},
        {"url": "https://hr.example/{worker_id}", "headers": {"Host": "other"}},
        {"url": "https://hr.example/{worker_id}", "headers": {"X-A": "1\r\nX-B: 2"}},
        {"url": "https://hr.example/{worker_id}", "credential": {"file": "f", "header": "a b"}},
        {"url": "https://hr.example/{worker_id}", "rate": 0},
    ],
)
def test_what_would_ask_the_wrong_one_is_refused_when_declared(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Enrichment.model_validate(settings)
