"""Rules of handing a mail to an SMTP server: one in trouble holds up nobody but its own mails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from service.mail import NotTaken, SmtpMailer
from tests.faults import proves
from tests.infrastructure.processes import free_ports
from tests.provisioning.smtp import mail_server
from tests.service.test_mail_webhook import MAIL


async def test_a_server_that_hangs_takes_no_thread_from_others_and_is_soon_left_alone() -> None:
    port = free_ports(1)[0]

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    clock = asyncio.get_running_loop().time
    async with await asyncio.start_server(hang, "127.0.0.1", port):
        mailer = SmtpMailer(host="127.0.0.1", port=port, starttls=False, timeout=0.5)
        started = clock()
        mails = [asyncio.create_task(mailer.send(MAIL)) for _ in range(100)]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(asyncio.to_thread(lambda: None), 0.3)
        ended = await asyncio.gather(*mails, return_exceptions=True)
        took = clock() - started
    assert {type(each) for each in ended} == {NotTaken}
    assert took < 1.5, "those who wait for it need not find out one by one"


async def test_a_server_that_is_back_is_used_again() -> None:
    port = free_ports(1)[0]
    mailer = SmtpMailer(host="127.0.0.1", port=port, starttls=False, left_alone=0.1)
    with pytest.raises(NotTaken):
        await mailer.send(MAIL)
    async with mail_server(port) as taken:
        await asyncio.sleep(0.15)
        await mailer.send(MAIL)
    assert len(taken) == 1


async def test_a_customers_name_of_several_lines_makes_no_header_of_its_own() -> None:
    port = free_ports(1)[0]
    mailer = SmtpMailer(host="127.0.0.1", port=port, starttls=False)
    async with mail_server(port) as taken:
        await mailer.send(replace(MAIL, organization="Hoekstra\nBcc: eve@evil.example"))
    head = taken[0].partition("\r\n\r\n")[0]
    assert "Subject: Your access to Hoekstra Bcc: eve@evil.example" in head
    assert not any(line.startswith("Bcc") for line in head.splitlines())


async def test_a_mail_that_cannot_be_written_was_certainly_not_handed_over() -> None:
    mailer = SmtpMailer(host="127.0.0.1", port=1, starttls=False)
    with pytest.raises(NotTaken) as refused:
        await mailer.send(replace(MAIL, to="a\nb@hoekstra.example"))
    assert refused.value.for_good


@pytest.mark.parametrize(
    ("to", "written"),
    [
        ("ada,byron@hoekstra.example", '"ada,byron"@hoekstra.example'),
        ('ada"b@hoekstra.example', '"ada\\"b"@hoekstra.example'),
        ('"ada b"@hoekstra.example', '"ada b"@hoekstra.example'),
        ("eve@evil.example,ada@hoekstra.example", '"eve@evil.example,ada"@hoekstra.example'),
        ("o'hara+x@hoekstra.example", "o'hara+x@hoekstra.example"),
    ],
)
async def test_a_mail_goes_to_the_one_address_that_was_meant(to: str, written: str) -> None:
    port = free_ports(1)[0]
    named: list[str] = []
    async with mail_server(port, named=named) as taken:
        await SmtpMailer(host="127.0.0.1", port=port, starttls=False).send(replace(MAIL, to=to))
    assert f"To: {written}" in taken[0].splitlines()
    assert named == [written]


async def test_an_address_that_the_server_cannot_write_to_is_refused_for_good() -> None:
    port = free_ports(1)[0]
    mailer = SmtpMailer(host="127.0.0.1", port=port, starttls=False)
    async with mail_server(port) as taken:
        with pytest.raises(NotTaken) as refused:
            await mailer.send(replace(MAIL, to="ädä@hoekstra.example"))
    assert refused.value.for_good
    assert taken == []


@proves("mail server that drips")
@pytest.mark.parametrize("after", ["", "MAIL", "DATA"])
async def test_a_server_that_drips_its_answers_is_cut_off_in_time(after: str) -> None:
    """Each byte comes within the time for one answer; the answer never ends."""
    port = free_ports(1)[0]
    async with mail_server(port, drips=after):
        mailer = SmtpMailer(host="127.0.0.1", port=port, starttls=False, conversation=0.3)
        started = asyncio.get_running_loop().time()
        with pytest.raises(OSError if after == "DATA" else NotTaken) as ended:
            await mailer.send(MAIL)
        assert asyncio.get_running_loop().time() - started < 1.0
    assert not isinstance(ended.value, NotTaken) or not ended.value.for_good


async def test_a_thread_ends_with_whoever_waited_for_it() -> None:
    """Else the process would wait for it at its end."""
    port, clock = free_ports(1)[0], asyncio.get_running_loop().time
    async with mail_server(port, drips="MAIL"):
        mailer = SmtpMailer(host="127.0.0.1", port=port, starttls=False)
        sending = asyncio.create_task(mailer.send(MAIL))
        await asyncio.sleep(0.1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        cancelled = clock()
    assert clock() - cancelled < 1.0, "the server waits until connections are over"
