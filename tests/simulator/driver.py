"""A caller of the simulator's HTTP interface, and a clock that tests move by hand."""

from typing import Any

import httpx
from starlette.applications import Starlette

PASSWORD = "Correct-horse-7"
JSON = dict[str, Any]


class Clock:
    """Seconds since the epoch, standing still until told otherwise."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Auth0:
    """One tenant, spoken to over HTTP with a token of its default client."""

    def __init__(self, http: httpx.AsyncClient, tenant: str = "main") -> None:
        self.http = http
        self.prefix = "" if tenant == "main" else f"/tenants/{tenant}"
        self.token = ""

    @classmethod
    def of(cls, app: Starlette, tenant: str = "main") -> "Auth0":
        """A caller within this process."""
        transport = httpx.ASGITransport(app)
        return cls(httpx.AsyncClient(transport=transport, base_url="http://auth0.test"), tenant)

    async def sign_in(self, **wish: str) -> httpx.Response:
        """Fetch a token and use it from now on."""
        body = {
            "grant_type": "client_credentials",
            "client_id": "provisioner",
            "client_secret": "simulator-secret",
            "audience": "https://main.example/api/v2/",
            **wish,
        }
        answer = await self.http.post(f"{self.prefix}/oauth/token", json=body)
        self.token = answer.json().get("access_token", "")
        return answer

    async def send(
        self, method: str, path: str, body: object = None, **query: str | int | bool
    ) -> httpx.Response:
        """Call an operation; `path` is below `/api/v2`."""
        return await self.http.request(
            method,
            f"{self.prefix}/api/v2{path}",
            json=body,
            params=query or None,
            headers={"authorization": f"Bearer {self.token}"},
        )

    async def get(self, path: str, **query: str | int | bool) -> Any:
        """The body of a successful GET."""
        answer = await self.send("GET", path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: object) -> Any:
        """The body of a successful POST, or None."""
        answer = await self.send("POST", path, body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def refused(
        self, method: str, path: str, body: object = None, **query: str | int | bool
    ) -> JSON:
        """The body of a call that must not succeed."""
        answer = await self.send(method, path, body, **query)
        assert not answer.is_success, answer.text
        return answer.json()

    async def create_user(
        self, email: str, *, connection: str = "hoekstra-users", **more: object
    ) -> JSON:
        """A new user, no verification mail."""
        body = {
            "connection": connection,
            "email": email,
            "password": PASSWORD,
            "verify_email": False,
            **more,
        }
        return await self.post("/users", body)

    async def user(self, user_id: str) -> JSON:
        return await self.get(f"/users/{user_id}")

    async def organization(self, name: str = "hoekstra") -> str:
        """The id of an organization."""
        found = await self.get(f"/organizations/name/{name}")
        return str(found["id"])

    async def connection(self, name: str = "hoekstra-users") -> str:
        """The id of a connection."""
        found = await self.get("/connections", name=name)
        return str(found[0]["id"])

    async def role(self, name: str = "admin") -> str:
        """The id of a role."""
        found = await self.get("/roles", name_filter=name)
        return str(found[0]["id"])

    async def control(self, path: str, body: object = None) -> Any:
        """POST to the control API."""
        answer = await self.http.post(f"/simulator/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def login(self, email: str, connection: str = "hoekstra-users", **more: object) -> JSON:
        return await self.control("login", {"connection": connection, "email": email, **more})

    async def state(self) -> JSON:
        answer = await self.http.get("/simulator/state")
        return answer.json()

    async def calls(self, after: int = 0) -> list[JSON]:
        answer = await self.http.get("/simulator/calls", params={"after": after})
        return answer.json()
