"""The sample day: who joins, moves and leaves, through which door, and how each step must end. Data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH_OP: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an event must end: the outcome's short name, its state, or its error code."""

    outcome: str = "succeeded"
    state: str | None = "applied"
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """SCIM POST. ``key`` is the attribute by which to look a doubtful one up."""

    kind: Literal["Users", "Groups"] = "Users"
    key: str = "userName"
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """SCIM PUT, PATCH or DELETE of the resource with this name. ``{id:NAME}`` in a body stands for
    the id of a user by ``userName``."""

    method: Literal["PUT", "PATCH", "DELETE"]
    kind: Literal["Users", "Groups"] = "Users"
    key: str = "userName"
    name: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """An HR event. ``number`` makes its id; two steps may share one on purpose."""

    number: int
    type: str
    worker_id: str
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    effective_in: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens. ``later`` names an earlier step that ends by this one, and how."""

    name: str
    time: str
    organization: str
    text: str
    action: Create | Change | Worker
    ending: Ending | None = field(default_factory=Ending)
    later: tuple[str, Ending] | None = None


def _user(name: str, given: str, family: str, external_id: str | None = None) -> Create:
    body: dict[str, Any] = {
        "schemas": [USER],
        "userName": name,
        "name": {"givenName": given, "familyName": family},
        "displayName": f"{given} {family}",
        "emails": [{"value": name, "type": "work", "primary": True}],
        "active": True,
    }
    return Create(body=body | ({"externalId": external_id} if external_id else {}))


def _group(name: str, *members: str) -> Create:
    listed = [{"value": f"{{id:{member}}}"} for member in members]
    return Create(
        kind="Groups",
        key="displayName",
        body={"schemas": [GROUP], "displayName": name, "members": listed},
    )


def _patch(*operations: Mapping[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": list(operations)}


_ANNELIES, _BRAM = "annelies.dewit@hoekstra.example", "bram.visser@hoekstra.example"
_CARLA, _DIRK = "carla.smit@hoekstra.example", "dirk.bos@hoekstra.example"
_OKAFOR = "n.okafor@clinics.example"

DAY: Final[tuple[Step, ...]] = (
    Step(
        name="annelies-joins",
        time="08:00",
        organization="hoekstra",
        text="Annelies de Wit joins",
        action=_user(_ANNELIES, "Annelies", "de Wit", "1001"),
    ),
    Step(
        name="bram-joins",
        time="08:02",
        organization="hoekstra",
        text="Bram Visser joins",
        action=_user(_BRAM, "Bram", "Visser", "1002"),
    ),
    Step(
        name="administrators",
        time="08:05",
        organization="hoekstra",
        text="the group Administrators appears, with Annelies",
        action=_group("Administrators", _ANNELIES),
    ),
    Step(
        name="carla-hired",
        time="08:10",
        organization="hoekstra",
        text="HR hires Carla Smit",
        action=Worker(
            number=1,
            type="worker.hired",
            worker_id="1003",
            data={"attributes": {"email": _CARLA, "given_name": "Carla", "family_name": "Smit"}},
        ),
    ),
    Step(
        name="carla-in-scim",
        time="08:40",
        organization="hoekstra",
        text="the identity provider sends Carla too, under the same number",
        action=_user(_CARLA, "Carla", "Smit", "1003"),
    ),
    Step(
        name="bookkeeping",
        time="08:45",
        organization="hoekstra",
        text="the group Bookkeeping appears, with Carla",
        action=_group("Bookkeeping", _CARLA),
    ),
    Step(
        name="bram-keeps-books",
        time="08:50",
        organization="hoekstra",
        text="Bram moves to Bookkeeping",
        action=Change(
            method="PATCH",
            kind="Groups",
            key="displayName",
            name="Bookkeeping",
            body=_patch({"op": "Add", "path": "members", "value": [{"value": f"{{id:{_BRAM}}}"}]}),
        ),
    ),
    Step(
        name="carla-marries",
        time="09:15",
        organization="hoekstra",
        text="Carla marries and changes her name",
        action=Change(
            method="PATCH",
            name=_CARLA,
            body=_patch(
                {
                    "op": "replace",
                    "value": {"name.familyName": "Jansen", "displayName": "Carla Jansen"},
                }
            ),
        ),
    ),
    Step(
        name="bram-terminated",
        time="10:00",
        organization="hoekstra",
        text="HR terminates Bram, at once",
        action=Worker(
            number=2, type="worker.terminated", worker_id="1002", data={"immediate": True}
        ),
    ),
    Step(
        name="bram-stays-out",
        time="10:20",
        organization="hoekstra",
        text="the identity provider still says that Bram is active",
        action=Change(
            method="PUT",
            name=_BRAM,
            body=_user(_BRAM, "Bram", "Visser", "1002").body,
        ),
    ),
    Step(
        name="bram-again",
        time="10:21",
        organization="hoekstra",
        text="HR sends the termination a second time",
        action=Worker(
            number=2, type="worker.terminated", worker_id="1002", data={"immediate": True}
        ),
        ending=Ending(outcome="duplicate", state=None),
    ),
    Step(
        name="bram-id-reused",
        time="10:22",
        organization="hoekstra",
        text="HR uses the same event id for something else",
        action=Worker(
            number=2, type="worker.terminated", worker_id="1001", data={"immediate": True}
        ),
        ending=Ending(outcome="rejected", state=None, code="id_reuse_conflict"),
    ),
    Step(
        name="bram-rehired",
        time="11:00",
        organization="hoekstra",
        text="HR rehires Bram",
        action=Worker(number=3, type="worker.rehired", worker_id="1002"),
    ),
    Step(
        name="carla-will-leave",
        time="11:30",
        organization="hoekstra",
        text="HR notes that Carla leaves in 31 days",
        action=Worker(
            number=4,
            type="worker.terminated",
            worker_id="1003",
            effective_in=timedelta(days=31),
        ),
        ending=None,
    ),
    Step(
        name="carla-stays",
        time="11:45",
        organization="hoekstra",
        text="HR takes that back",
        action=Worker(number=5, type="worker.termination_rescinded", worker_id="1003"),
        later=("carla-will-leave", Ending(outcome="cancelled", state=None)),
    ),
    Step(
        name="dirk-joins",
        time="12:00",
        organization="hoekstra",
        text="Dirk Bos joins",
        action=_user(_DIRK, "Dirk", "Bos"),
    ),
    Step(
        name="dirk-deleted",
        time="12:30",
        organization="hoekstra",
        text="Dirk is deleted; his account is held for 30 days",
        action=Change(method="DELETE", name=_DIRK),
        ending=Ending(state="held"),
    ),
    Step(
        name="kiosk",
        time="12:40",
        organization="hoekstra",
        text="a kiosk user without an address is stored and waits",
        action=Create(body={"schemas": [USER], "userName": "kiosk-01", "active": True}),
        ending=Ending(state="waiting"),
    ),
    Step(
        name="address-taken",
        time="12:50",
        organization="hoekstra",
        text="a second user claims Annelies' address",
        action=Create(
            body={
                "schemas": [USER],
                "userName": "a.dewit",
                "emails": [{"value": _ANNELIES.upper(), "primary": True}],
            }
        ),
        ending=Ending(outcome="deadlettered", state=None, code="identifier_in_use"),
    ),
    Step(
        name="bank-joins",
        time="13:00",
        organization="metahexa",
        text="Priya Raman joins the bank; her profile comes with her first login",
        action=_user("priya.raman@metahexa.example", "Priya", "Raman", "m-1"),
        ending=Ending(state="waiting"),
    ),
    Step(
        name="okafor-clinic-a",
        time="13:30",
        organization="clinic-a",
        text="Ngozi Okafor joins clinic A",
        action=_user(_OKAFOR, "Ngozi", "Okafor", "a-7"),
    ),
    Step(
        name="okafor-clinic-b",
        time="13:40",
        organization="clinic-b",
        text="clinic B shares the doctor: the same account",
        action=_user(_OKAFOR, "Ngozi", "Okafor", "b-3"),
    ),
    Step(
        name="okafor-leaves-a",
        time="15:00",
        organization="clinic-a",
        text="she leaves clinic A and keeps working in B",
        action=Change(
            method="PATCH",
            name=_OKAFOR,
            body=_patch({"op": "replace", "path": "active", "value": False}),
        ),
    ),
    Step(
        name="temp-joins",
        time="15:05",
        organization="clinic-b",
        text="Tomas Lind joins clinic B",
        action=_user("t.lind@clinics.example", "Tomas", "Lind", "b-4"),
    ),
    Step(
        name="temp-leaves",
        time="16:30",
        organization="clinic-b",
        text="he leaves; no clinic is left, so the account is blocked",
        action=Change(method="DELETE", name="t.lind@clinics.example"),
    ),
    Step(
        name="holding-hires",
        time="16:40",
        organization="conglomerate",
        text="HR hires Mei Tanaka, in an Auth0 tenant of the company's own",
        action=Worker(
            number=1,
            type="worker.hired",
            worker_id="K-88",
            data={
                "attributes": {
                    "email": "mei.tanaka@conglomerate.example",
                    "given_name": "Mei",
                    "family_name": "Tanaka",
                },
                "groups": ["Administrators"],
            },
        ),
    ),
    Step(
        name="holding-mover",
        time="16:50",
        organization="conglomerate",
        text="she moves and loses the administrator's role",
        action=Worker(
            number=2,
            type="worker.changed",
            worker_id="K-88",
            data={"attributes": {"title": "Head of Audit"}, "groups": []},
        ),
    ),
    Step(
        name="holding-leave",
        time="17:00",
        organization="conglomerate",
        text="she goes on parental leave and keeps her access",
        action=Worker(number=3, type="worker.leave_started", worker_id="K-88"),
    ),
    Step(
        name="holding-suspended",
        time="17:30",
        organization="conglomerate",
        text="Jon Arvid is hired",
        action=Worker(
            number=4,
            type="worker.hired",
            worker_id="K-89",
            data={"attributes": {"email": "jon.arvid@conglomerate.example", "given_name": "Jon"}},
        ),
    ),
    Step(
        name="holding-out",
        time="18:00",
        organization="conglomerate",
        text="and suspended the same day",
        action=Worker(number=5, type="worker.suspended", worker_id="K-89"),
    ),
)


def as_cloudevent(step: Step, worker: Worker, day: str, now: datetime) -> dict[str, Any]:
    """The step's HR event: attributes and ``data``. The same for every repetition of a day."""
    data = {"worker_id": worker.worker_id, **worker.data}
    if worker.effective_in is not None:
        data["effective_at"] = (now + worker.effective_in).date().isoformat()
        data["zone"] = "Europe/Amsterdam"
    return {
        "specversion": "1.0",
        "id": f"{day}-{worker.number}",
        "source": f"/hr/{step.organization}",
        "type": worker.type,
        "subject": worker.worker_id,
        "data": data,
    }
