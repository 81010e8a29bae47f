"""What ``doctor`` looks at, in the order in which one thing needs the other. Changes nothing."""

from __future__ import annotations

import asyncio
import difflib
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiokafka import AIOKafkaClient
from aiokafka.errors import KafkaError

from operators import needs, stored_checks
from operators.mailing import mailer_of
from operators.stored_checks import Declared
from scim import issuers
from service.auth0.calls import http_client
from service.auth0.inspection import Finding, Inspector
from service.auth0.pacing import Pacer
from service.clock import Clock, SystemClock
from service.configuration import PREFIX, Settings, read_secret
from service.directory.database import open_database
from service.enrichment import Credential
from service.errors import ConfigurationError
from service.kafka import connection_of
from service.kafka_reach import Refusal, why_refused
from service.kafka_start import started
from service.organizations import EventSource, Organization, Tenant

_ISSUER_WITHIN = 10.0
_TENANT_WITHIN = 60.0
_ORGANIZATION_WITHIN = 3.0
"""Seconds for a tenant and for each of its organizations; Auth0's free plan takes 2 calls a second."""
_KAFKA_WITHIN = 10.0
"""Seconds for reaching the brokers and reading the topics."""


async def examine(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    """Every finding, one after the other; what needs a database is left out where there is none."""
    for finding in _configuration(settings, os.environ.keys()):
        yield finding
    url = settings.database_url.get_secret_value()
    default = settings.default_tenant()
    declared = Declared(tenants=[default] if default is not None else [])
    usable = True
    async for finding in stored_checks.usable(url):
        usable = usable and finding.verdict == "ok"
        yield finding
    if usable:
        database = open_database(url)
        try:
            declared = await stored_checks.declared_in(database, settings)
            async for finding in stored_checks.findings(
                database, settings, declared.organizations, clock
            ):
                yield finding
        finally:
            await database.close()
        if not declared.organizations:
            yield Finding(
                check="organizations",
                verdict="failed",
                detail="none is declared",
                advice="Declare them: provisioner org apply FILE.",
            )
    async for finding in _around(settings, declared, clock):
        yield finding


async def _around(settings: Settings, declared: Declared, clock: Clock) -> AsyncIterator[Finding]:
    """What the installation depends on: files, brokers, mail server, issuers, tenants."""
    for source in declared.sources:
        if source.enrichment is not None and source.enrichment.credential is not None:
            yield _credential(source.name, source.enrichment.credential)
    async for finding in _kafka(settings, declared.sources):
        yield finding
    for finding in _mail(settings, declared.organizations):
        yield finding
    async for finding in _issuers(declared.organizations):
        yield finding
    if not declared.tenants:
        yield Finding(
            check="tenants",
            verdict="failed",
            detail="no Auth0 tenant is configured",
            advice="Set PROVISIONER_AUTH0_DOMAIN, _CLIENT_ID and _CLIENT_SECRET, or declare one.",
        )
    for tenant in declared.tenants:
        theirs = [each for each in declared.organizations if each.tenant == tenant.name]
        async for finding in _tenant(settings, tenant, theirs, clock):
            yield finding


_PEPPER: Final = f"needed by {', '.join(needs.PEPPER_IS_FOR)}, the same in every process"


def _configuration(settings: Settings, environment: Collection[str]) -> Iterable[Finding]:
    unknown = unknown_variables(environment)
    for name, meant in unknown.items():
        advice = f"Did you mean {meant}?" if meant else "Remove it, or see docs/operations.md."
        yield Finding(check=name, verdict="failed", detail="is no setting", advice=advice)
    if not unknown:
        yield Finding(check="configuration", verdict="ok", detail="every variable is understood")
    try:
        short = len(settings.pepper()) < 32
    except ConfigurationError as error:
        yield Finding(
            check="token pepper", verdict="failed", detail=str(error), advice=f"Set it: {_PEPPER}."
        )
        return
    yield Finding(
        check="token pepper",
        verdict="failed" if short else "ok",
        detail="shorter than 32 bytes" if short else _PEPPER,
        advice="Give 32 random bytes or more; tokens have to be made anew." if short else "",
    )


def unknown_variables(environment: Collection[str]) -> dict[str, str]:
    """Variables with our prefix that are no setting, each with the one that it resembles, or ``""``."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in known}
    return {
        name: (difflib.get_close_matches(name.upper(), sorted(known), 1) or [""])[0]
        for name in sorted(environment)
        if name.upper().startswith(PREFIX) and name.upper() not in known
    }


def _mail(settings: Settings, declared: Sequence[Organization]) -> Iterable[Finding]:
    inviting = [each.name for each in declared if each.policies.invite == "ticket"]
    if not inviting:
        return
    try:
        mailer_of(settings, SystemClock())
    except ConfigurationError as error:
        yield Finding(
            check="mail", verdict="failed", detail=str(error), advice=f"Set it: {_PEPPER}."
        )
        return
    if settings.mail_folder:
        yield Finding(check="mail", verdict="ok", detail=f"through {settings.mail_folder}")
        return
    if settings.mail_webhook_url:
        host = urlsplit(settings.mail_webhook_url).hostname
        yield Finding(check="mail", verdict="ok", detail=f"through the webhook at {host}")
        return
    if settings.smtp_host:
        yield _mail_server(settings)
        return
    yield Finding(
        check="mail",
        verdict="failed",
        detail=f"no mail server for the invitations of {', '.join(inviting)}",
        advice='Set PROVISIONER_SMTP_HOST, or declare policies.invite as "none".',
    )


def _mail_server(settings: Settings) -> Finding:
    through = f"through {settings.smtp_host}:{settings.smtp_port}"
    if settings.smtp_starttls and settings.smtp_verify:
        return Finding(check="mail", verdict="ok", detail=through)
    if not settings.smtp_starttls:
        return Finding(
            check="mail",
            verdict="warning",
            detail=f"{through}, in clear: whoever is on the way reads the links to set passwords",
            advice="Set PROVISIONER_SMTP_STARTTLS=true.",
        )
    return Finding(
        check="mail",
        verdict="warning",
        detail=f"{through}, whose certificate is not checked: whoever poses as it reads the links"
        " to set passwords",
        advice="Set PROVISIONER_SMTP_VERIFY=true, and PROVISIONER_MAIL_CA_FILE where an authority of"
        " your own signs.",
    )


def _credential(source: str, credential: Credential) -> Finding:
    check = f"enrichment of {source}"
    try:
        credential.as_header(read_secret(Path(credential.file), check))
    except (ConfigurationError, ValueError) as error:
        return Finding(
            check=check,
            verdict="failed",
            detail=str(error),
            advice="Put the secret there, on one line, for every process that takes events in.",
        )
    return Finding(check=check, verdict="ok", detail=f"its credential is in {credential.file}")


async def _issuers(declared: Sequence[Organization]) -> AsyncIterator[Finding]:
    """Of each organization that names one: whether its keys can be had, by the SCIM door's way."""
    async with issuers.http_client() as http:
        for each in declared:
            if each.scim_oauth is None:
                continue
            check = f"issuer of {each.name}"
            try:
                async with asyncio.timeout(_ISSUER_WITHIN):
                    keys = await issuers.fetch_keys(each.scim_oauth, http)
            except (issuers.Unreachable, TimeoutError) as error:
                yield Finding(
                    check=check,
                    verdict="failed",
                    detail=str(error) or f"does not answer within {_ISSUER_WITHIN:.0f} s",
                    advice="Correct scim_oauth.issuer or jwks_url, or the way to it.",
                )
            else:
                yield Finding(
                    check=check, verdict="ok", detail=f"{each.scim_oauth.issuer}, keys: {len(keys)}"
                )


async def _kafka(settings: Settings, sources: Sequence[EventSource]) -> AsyncIterator[Finding]:
    if not settings.kafka_bootstrap_servers:
        yield Finding(
            check="kafka",
            verdict="skipped",
            detail="not configured: events come over HTTP, outcomes stay in the database",
        )
        return
    try:
        refusal = await why_refused(connection_of(settings), _KAFKA_WITHIN)
    except ConfigurationError as error:
        refusal = Refusal(detail=str(error), advice="Set it; see docs/operations.md.")
    if refusal is not None:
        yield Finding(check="kafka", verdict="failed", detail=refusal.detail, advice=refusal.advice)
        return
    try:
        there = await _topics(settings)
    except (KafkaError, OSError, TimeoutError, ssl.SSLError) as error:
        yield Finding(
            check="kafka",
            verdict="failed",
            detail=f"{settings.kafka_bootstrap_servers}: {type(error).__name__}: {error}".strip(
                ": "
            ),
            advice="Correct PROVISIONER_KAFKA_BOOTSTRAP_SERVERS and the SASL and TLS settings.",
        )
        return
    yield Finding(check="kafka", verdict="ok", detail=settings.kafka_bootstrap_servers)
    wanted = [source.topic for source in sources if source.topic is not None]
    wanted += [settings.kafka_outcomes_topic, settings.kafka_deadletters_topic]
    for topic in dict.fromkeys(wanted):
        if topic in there:
            yield Finding(check=f"topic {topic}", verdict="ok")
        else:
            yield Finding(
                check=f"topic {topic}",
                verdict="failed",
                detail="does not exist, or may not be seen",
                advice="Create it, or allow us to describe it.",
            )


async def _topics(settings: Settings) -> set[str]:
    async with asyncio.timeout(_KAFKA_WITHIN):
        client = AIOKafkaClient(**connection_of(settings).arguments())
        try:
            await started(client.bootstrap())
            metadata = await client.fetch_all_metadata()
            return set(metadata.topics(exclude_internal_topics=False))
        finally:
            await client.close()


async def _tenant(
    settings: Settings, tenant: Tenant, theirs: Sequence[Organization], clock: Clock
) -> AsyncIterator[Finding]:
    try:
        secret = settings.client_secret(tenant)
    except ConfigurationError as error:
        yield Finding(
            check=f"tenant {tenant.name}",
            verdict="failed",
            detail=str(error),
            advice="Mount the file, or correct client_secret_file.",
        )
        return
    inspector = Inspector(
        tenant, secret, clock=clock, pacer=Pacer(tenant.plan, clock), http=http_client()
    )
    try:
        async for finding in _within(
            inspector.inspect(theirs),
            f"tenant {tenant.name}",
            _TENANT_WITHIN + _ORGANIZATION_WITHIN * len(theirs),
            clock,
        ):
            yield finding
    finally:
        await inspector.close()


async def _within(
    findings: AsyncGenerator[Finding], check: str, seconds: float, clock: Clock
) -> AsyncIterator[Finding]:
    """What is found in time; a tenant that answers slowly or not at all does not hold us up."""
    until = clock.monotonic() + seconds
    try:
        while True:
            yield await asyncio.wait_for(anext(findings), max(until - clock.monotonic(), 0.01))
    except StopAsyncIteration:
        return
    except TimeoutError:
        yield Finding(
            check=check,
            verdict="failed",
            detail=f"not everything could be looked at within {seconds:.0f} s",
            advice="Look at the tenant's rate limit and log, then try again.",
        )
    finally:
        await findings.aclose()
