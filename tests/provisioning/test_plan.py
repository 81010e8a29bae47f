"""The plan as a law: it comes to an end, wants nothing twice, and never goes beyond its rights."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from service.directory.ledger import Way
from service.organizations import Connection, Model
from service.people import Profile
from service.provisioning import operations as op
from service.provisioning.desired import Desired, Wish
from service.provisioning.inviting import Invite
from service.provisioning.observed import Observed, after
from service.provisioning.operations import Operation, Subject
from service.provisioning.plan import plan

SUBJECT = Subject(organization="acme", user_id="u1")
NAMES = st.sampled_from(["acme", "globex", "initech"])
ROLES = st.frozensets(st.sampled_from(["admin", "member", "billing"]))
MODELS: st.SearchStrategy[Model] = st.sampled_from(["isolated", "shared"])
PROFILES = st.builds(
    Profile,
    given_name=st.sampled_from([None, "Ada", "Bob"]),
    family_name=st.sampled_from([None, "Byron"]),
    name=st.sampled_from([None, "Ada Byron", "Bob"]),
)


@st.composite
def wishes(draw: st.DrawFn) -> Desired:
    wanted = draw(st.booleans())
    model = draw(MODELS)
    names = draw(st.frozensets(NAMES, min_size=1, max_size=3 if model == "shared" else 1))
    entries = {name: f"of {name}" for name in names if draw(st.booleans())}
    return Desired(
        model=model,
        principal=SUBJECT,
        connection=Connection(name="users"),
        email=draw(st.sampled_from(["a@x.example", "b@x.example"])),
        profile=draw(PROFILES),
        wanted=wanted,
        memberships={name: Wish(subject=SUBJECT, roles=draw(ROLES)) for name in names}
        if wanted
        else {},
        leavers={} if wanted else dict.fromkeys(names, SUBJECT),
        entries=entries if wanted else {},
        former_entries={} if wanted else entries,
        delete=not wanted and model == "isolated" and draw(st.booleans()),
        deletes_by_order=draw(st.booleans()),
    )


@st.composite
def pictures(draw: st.DrawFn) -> Observed:
    if draw(st.booleans()):
        return Observed()
    blocked = draw(st.booleans())
    roles = draw(ROLES)
    return Observed(
        presence="present",
        origin=draw(st.sampled_from(["created", "adopted", "joined"])),
        email=draw(st.sampled_from(["a@x.example", "c@x.example"])),
        profile=draw(PROFILES),
        marked=draw(st.booleans()),
        blocked=blocked,
        blocked_by_us=blocked and draw(st.booleans()),
        sessions=draw(st.sampled_from(["possible", "owed", "revoked"])),
        memberships={name: tuple(sorted(roles)) for name in draw(st.frozensets(NAMES))},
        foreign=draw(st.sampled_from([None, (), ("elsewhere",)])),
        listed=draw(st.sampled_from([None, (), ("of acme",), ("of acme", "of globex", "else")])),
    )


def carry_out(desired: Desired, observed: Observed) -> tuple[list[Operation], Observed]:
    """What lanes do: the first operation, then plan again, until nothing is left."""
    done: list[Operation] = []
    while operations := plan(desired, observed):
        first = operations[0]
        done.append(first)
        if isinstance(first, op.ReadMemberships):
            observed = replace(observed, foreign=())
        else:
            observed = after(observed, first)
        assert len(done) < 40, [str(one) for one in done]
    return done, observed


@given(desired=wishes(), observed=pictures())
def test_every_plan_comes_to_an_end_and_is_then_empty(desired: Desired, observed: Observed) -> None:
    _, reached = carry_out(desired, observed)
    assert plan(desired, reached) == ()


@given(desired=wishes(), observed=pictures())
def test_no_operation_is_done_twice(desired: Desired, observed: Observed) -> None:
    done, _ = carry_out(desired, observed)
    revocations = [one for one in done if isinstance(one, op.RevokeAccess)]
    others = [str(one) for one in done if not isinstance(one, op.RevokeAccess)]
    assert len(others) == len(set(others))
    assert len(revocations) <= 2


@given(
    desired=wishes(),
    observed=pictures(),
    by=st.sampled_from(["ticket", "auth0-mail"]),
    asked=st.sampled_from([None, "event"]),
    in_use=st.booleans(),
)
def test_no_link_goes_to_a_blocked_user_or_by_an_old_picture(
    desired: Desired, observed: Observed, by: Way, asked: str | None, in_use: bool
) -> None:
    if not desired.wanted:
        return
    invite = Invite(
        subject=SUBJECT,
        by=by,
        organization=next(iter(desired.memberships)),
        intent="key",
        lifetime=timedelta(days=1),
        asked=asked,
    )
    desired, observed = replace(desired, invite=invite), replace(observed, in_use=in_use)
    for _ in range(40):
        operations = plan(desired, observed)
        if not operations:
            return
        if isinstance(operations[0], op.SendTicket | op.SendResetMail):
            assert not observed.blocked
            assert observed.fresh
            assert observed.origin == "created"
            assert asked or not observed.in_use
            return
        observed = after(observed, operations[0])
        if isinstance(operations[0], op.ReadMemberships):
            observed = replace(observed, foreign=())
    raise AssertionError("the plan does not come to an end")


@given(desired=wishes(), observed=pictures())
def test_a_foreign_block_is_never_lifted(desired: Desired, observed: Observed) -> None:
    done, _ = carry_out(desired, observed)
    if observed.blocked and not observed.blocked_by_us:
        assert not any(isinstance(one, op.Unblock) for one in done)


@given(desired=wishes(), observed=pictures())
def test_whoever_is_out_of_an_isolated_account_is_blocked_without_sessions_or_memberships(
    desired: Desired, observed: Observed
) -> None:
    _, reached = carry_out(desired, observed)
    if not desired.wanted and desired.model == "isolated" and reached.presence == "present":
        assert reached.blocked
        assert reached.sessions == "revoked"
        assert reached.memberships == {}


@given(desired=wishes(), observed=pictures())
def test_a_leaver_is_locked_out_before_anything_else(desired: Desired, observed: Observed) -> None:
    first = next(iter(plan(desired, observed)), None)
    if desired.wanted or desired.model != "isolated" or observed.presence != "present":
        return
    if not observed.blocked:
        assert isinstance(first, op.Block)


@given(desired=wishes(), observed=pictures())
def test_whoever_is_deleted_was_locked_out_and_by_policy_read_and_found_to_be_ours(
    desired: Desired, observed: Observed
) -> None:
    done, _ = carry_out(desired, observed)
    kinds = [one.kind for one in done]
    if "delete-user" not in kinds:
        return
    assert kinds[-1] == "delete-user"
    assert observed.blocked or "block" in kinds
    assert observed.sessions == "revoked" or "revoke-access" in kinds
    assert kinds.count("remove-member") == len(observed.memberships)
    if not desired.deletes_by_order:
        assert "read-user" in kinds
        assert observed.marked


@given(desired=wishes(), observed=pictures())
def test_the_shared_model_changes_no_profile_and_deletes_nothing(
    desired: Desired, observed: Observed
) -> None:
    if desired.model == "shared":
        done, _ = carry_out(desired, observed)
        assert not any(
            isinstance(one, op.UpdateProfile | op.ChangeEmail | op.DeleteUser) for one in done
        )


@given(desired=wishes(), observed=pictures())
def test_only_accounts_that_we_created_are_blocked_in_the_shared_model(
    desired: Desired, observed: Observed
) -> None:
    if desired.model == "shared" and observed.origin in ("adopted", "joined"):
        done, _ = carry_out(desired, observed)
        assert not any(isinstance(one, op.Block) for one in done)


@given(desired=wishes(), observed=pictures())
def test_lost_memberships_end_sessions(desired: Desired, observed: Observed) -> None:
    done, _ = carry_out(desired, observed)
    removed = [i for i, one in enumerate(done) if isinstance(one, op.RemoveMember)]
    if removed and not observed.blocked:
        assert any(isinstance(one, op.RevokeAccess) for one in done)


def test_what_a_later_release_has_seen_is_read_as_far_as_it_is_known() -> None:
    seen = Observed(presence="present", email="ada@hoekstra.example", alone=True)
    later = {**seen.as_document(), "seen_by_a_later_release": ["more"]}
    assert Observed.from_document(later) == seen
