"""Each invitation has a reason of its own, whatever became of those before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from operators.sample.organizations import sample_installation
from service.directory.ledger import Sent
from service.organizations import Organization
from service.provisioning.inviting import Candidate, Post, invite_of
from service.provisioning.operations import Subject

ADDRESS = "ada@hoekstra.example"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def inviting() -> Organization:
    (hoekstra,) = [
        each
        for each in sample_installation("http://auth0.test").organizations
        if each.name == "hoekstra"
    ]
    policies = hoekstra.policies.model_copy(update={"invite": "invitation"})
    return hoekstra.model_copy(update={"policies": policies, "application": "sample-app"})


def withdrawn(intent: str, days: int) -> Sent:
    return Sent(
        id=intent,
        organization="hoekstra",
        user_id="u1",
        kind="invitation",
        intent=intent,
        state="done",
        at=NOW - timedelta(days=days),
        address=ADDRESS,
        ended="withdrawn",
    )


def test_a_reason_that_was_used_is_not_used_again_where_an_earlier_one_was_forgotten() -> None:
    candidate = Candidate(
        subject=Subject(organization="hoekstra", user_id="u1"), organization=inviting()
    )
    # There was one between them, which an operator had wanted and nobody sent.
    post = Post(key="auth0|k", sent=(withdrawn("auth0|k", 9), withdrawn("auth0|k 2", 3)))
    invite = invite_of([candidate], post, address=ADDRESS, now=NOW)
    assert invite is not None
    assert invite.intent not in {each.intent for each in post.sent}
