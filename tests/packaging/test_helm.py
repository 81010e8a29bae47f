"""The chart lints, renders to objects that Kubernetes would take, and refuses wrong values."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "helm"
KUBERNETES = "1.34"
ROLES = {"scim", "intake", "lanes", "publisher", "console"}
SECRET_FILES = {
    "PROVISIONER_DATABASE_URL_FILE",
    "PROVISIONER_AUTH0_CLIENT_SECRET_FILE",
    "PROVISIONER_TOKEN_PEPPER_FILE",
}


def _values(topology: str) -> dict[str, Any]:
    return yaml.safe_load((CHART / "ci" / f"{topology}-values.yaml").read_text())


def _render(values: dict[str, Any]) -> list[dict[str, Any]]:
    manifests = helm.Chart.load(CHART).render(values, name="prod", namespace="identity")
    documents = (
        document
        for path, text in manifests.items()
        if not path.endswith(".txt")
        for document in yaml.safe_load_all(text)
    )
    return [document for document in documents if document]


def _of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def _pods(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in objects:
        if each["kind"] in {"Deployment", "Job"}:
            yield each["spec"]["template"]


def _container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    return container


@pytest.fixture(params=["single", "split"])
def topology(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def objects(topology: str) -> list[dict[str, Any]]:
    return _render(_values(topology))


def test_chart_lints_without_a_finding(topology: str) -> None:
    report = helm.lint(CHART, _values(topology), strict=True, kube_version=f"v{KUBERNETES}.0")
    assert report["total_charts_linted"] == 1
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > 1] == []


def test_every_object_is_valid_for_kubernetes(objects: list[dict[str, Any]]) -> None:
    assert objects
    for each in objects:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_no_two_objects_share_a_name(objects: list[dict[str, Any]]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))


def test_one_deployment_for_all_roles_or_one_per_role_with_replicas() -> None:
    def roles_and_replicas(topology: str) -> dict[str, int]:
        deployments = _of_kind(_render(_values(topology)), "Deployment").values()
        return {
            _container(each["spec"]["template"])["args"][-1]: each["spec"]["replicas"]
            for each in deployments
        }

    assert roles_and_replicas("single") == {"scim,intake,lanes,publisher,console": 2}
    assert roles_and_replicas("split") == {"scim": 2, "intake": 2, "lanes": 3, "publisher": 2}


def test_roles_are_those_of_the_command_line(objects: list[dict[str, Any]]) -> None:
    for deployment in _of_kind(objects, "Deployment").values():
        arguments = _container(deployment["spec"]["template"])["args"]
        assert arguments[:-1] == ["serve", "--host", "0.0.0.0", "--port", "8080", "--roles"]
        assert set(arguments[-1].split(",")) <= ROLES


def test_pods_have_no_right_they_do_not_need(objects: list[dict[str, Any]]) -> None:
    for pod in _pods(objects):
        spec, container = pod["spec"], _container(pod)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


def test_secrets_reach_pods_only_as_files(objects: list[dict[str, Any]]) -> None:
    assert not _of_kind(objects, "Secret")
    for pod in _pods(objects):
        container = _container(pod)
        assert "envFrom" not in container
        environment = {each["name"]: each.get("value", "") for each in container["env"]}
        (mount,) = (each for each in container["volumeMounts"] if each["name"] == "secrets")
        (volume,) = (each for each in pod["spec"]["volumes"] if each["name"] == "secrets")
        mounted = {
            f"{mount['mountPath']}/{item['path']}"
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        }
        named = {value for name, value in environment.items() if name.endswith("_FILE")}
        assert named == mounted
        assert mount["readOnly"] is True
        assert not {name.removesuffix("_FILE") for name in SECRET_FILES} & environment.keys()


def test_pods_behind_an_ingress_know_how_customers_reach_them() -> None:
    def told(values: dict[str, Any]) -> dict[str, list[str]]:
        (pod, *_) = (
            each["spec"]["template"] for each in _of_kind(_render(values), "Deployment").values()
        )
        found: dict[str, list[str]] = {}
        for each in _container(pod)["env"]:
            found.setdefault(each["name"], []).append(each.get("value", ""))
        return found

    split = told(_values("split"))
    assert split["PROVISIONER_PUBLIC_URL"] == ["https://provisioner.example.com"]
    assert split["FORWARDED_ALLOW_IPS"] == ["10.0.0.0/8,fd00::/8"]
    assert split["PROVISIONER_SCIM_RATE"] == ["200"]

    named = _values("split")
    named["extraEnv"] = [{"name": "PROVISIONER_PUBLIC_URL", "value": "https://scim.example.com"}]
    assert told(named)["PROVISIONER_PUBLIC_URL"] == ["https://scim.example.com"]

    without = _values("split")
    without["ingress"] |= {"enabled": False, "trustedProxies": []}
    assert not {"PROVISIONER_PUBLIC_URL", "FORWARDED_ALLOW_IPS"} & told(without).keys()


def test_serving_pods_have_every_setting_and_the_migration_only_the_database(
    objects: list[dict[str, Any]],
) -> None:
    for deployment in _of_kind(objects, "Deployment").values():
        names = {each["name"] for each in _container(deployment["spec"]["template"])["env"]}
        assert names >= SECRET_FILES | {"PROVISIONER_AUTH0_DOMAIN", "PROVISIONER_AUTH0_CLIENT_ID"}
    (job,) = _of_kind(objects, "Job").values()
    migration = _container(job["spec"]["template"])
    assert [each["name"] for each in migration["env"]] == ["PROVISIONER_DATABASE_URL_FILE"]


def test_secrets_are_taken_from_where_the_values_say() -> None:
    deployment = _of_kind(_render(_values("split")), "Deployment")["prod-auth0-provisioner-lanes"]
    volume = deployment["spec"]["template"]["spec"]["volumes"][0]
    assert [
        (source["secret"]["name"], source["secret"]["items"])
        for source in volume["projected"]["sources"]
    ] == [
        ("postgres-app", [{"key": "uri", "path": "database-url"}]),
        ("auth0", [{"key": "client-secret", "path": "auth0-client-secret"}]),
        ("pepper", [{"key": "value", "path": "token-pepper"}]),
        ("kafka", [{"key": "password", "path": "PROVISIONER_KAFKA_SASL_PASSWORD"}]),
    ]


def test_a_pod_takes_over_its_own_leases_when_its_container_starts_anew(
    objects: list[dict[str, Any]],
) -> None:
    for deployment in _of_kind(objects, "Deployment").values():
        env = _container(deployment["spec"]["template"])["env"]
        (instance,) = (each for each in env if each["name"] == "PROVISIONER_INSTANCE")
        assert instance["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_kafka_is_configured_only_where_it_is_named() -> None:
    def variables(topology: str) -> dict[str, str]:
        deployment = next(iter(_of_kind(_render(_values(topology)), "Deployment").values()))
        environment = _container(deployment["spec"]["template"])["env"]
        return {each["name"]: each.get("value", "") for each in environment}

    assert "PROVISIONER_KAFKA_BOOTSTRAP_SERVERS" not in variables("single")
    split = variables("split")
    assert split["PROVISIONER_KAFKA_BOOTSTRAP_SERVERS"] == "kafka-0.kafka:9092,kafka-1.kafka:9092"
    assert split["PROVISIONER_LOG_LEVEL"] == "info"


def test_migration_runs_before_install_and_upgrade_and_needs_no_object_of_the_release(
    objects: list[dict[str, Any]],
) -> None:
    (job,) = _of_kind(objects, "Job").values()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod
    assert _container({"spec": pod})["args"] == ["db", "upgrade"]
    hooked = [each for each in objects if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    assert hooked == [job]


def test_pods_are_probed_and_given_time_to_end(objects: list[dict[str, Any]]) -> None:
    for deployment in _of_kind(objects, "Deployment").values():
        pod = deployment["spec"]["template"]
        container = _container(pod)
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
        # The program ends within 15 s of SIGTERM.
        assert pod["spec"]["terminationGracePeriodSeconds"] == 30


def test_selectors_match_the_pods_they_are_meant_for(objects: list[dict[str, Any]]) -> None:
    pods = {
        name: each["spec"]["template"]["metadata"]["labels"]
        for name, each in _of_kind(objects, "Deployment").items()
    }

    def matched(selector: dict[str, str]) -> set[str]:
        return {name for name, labels in pods.items() if selector.items() <= labels.items()}

    for name, deployment in _of_kind(objects, "Deployment").items():
        assert matched(deployment["spec"]["selector"]["matchLabels"]) == {name}
    for name, budget in _of_kind(objects, "PodDisruptionBudget").items():
        assert matched(budget["spec"]["selector"]["matchLabels"]) == {name}
    for name, service in _of_kind(objects, "Service").items():
        everyone = name.endswith("-metrics")
        assert matched(service["spec"]["selector"]) == (set(pods) if everyone else {name})
    (job,) = _of_kind(objects, "Job").values()
    migration = job["spec"]["template"]["metadata"]["labels"]
    for service in _of_kind(objects, "Service").values():
        assert not service["spec"]["selector"].items() <= migration.items()


@pytest.mark.parametrize("topology", ["single", "split"])
@pytest.mark.parametrize("console", [True, False])
def test_ingress_leads_each_door_to_the_service_that_plays_its_role(
    topology: str, console: bool
) -> None:
    values = _values("split")
    values["topology"] = topology
    values["roles"]["console"] = {"replicas": 1}
    values["ingress"]["console"] = console
    objects = _render(values)
    (ingress,) = _of_kind(objects, "Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    backends = {
        each["path"]: each["backend"]["service"]["name"].removeprefix("prod-auth0-provisioner-")
        for each in rule["http"]["paths"]
    }
    expected = {"/scim": "scim", "/events": "intake"} | ({"/console": "console"} if console else {})
    expected |= {"/.well-known/jwks.json": "scim", "/.well-known/ssf-configuration": "scim"}
    if topology == "single":
        expected = dict.fromkeys(expected, "all")
    assert backends == expected
    assert {f"prod-auth0-provisioner-{name}" for name in backends.values()} <= set(
        _of_kind(objects, "Service")
    )
    assert ingress["spec"]["tls"] == [
        {"hosts": ["provisioner.example.com"], "secretName": "provisioner-tls"}
    ]


def test_optional_objects_are_left_out_where_not_asked_for() -> None:
    values = _values("single") | {
        "migration": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "serviceAccount": {"create": False, "name": "given"},
    }
    objects = _render(values)
    assert {each["kind"] for each in objects} == {"Deployment", "Service"}
    (deployment,) = _of_kind(objects, "Deployment").values()
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "given"


def test_image_is_named_by_digest_before_tag_before_version() -> None:
    def image(**settings: str) -> str:
        (deployment,) = _of_kind(
            _render(_values("single") | {"image": settings}), "Deployment"
        ).values()
        return _container(deployment["spec"]["template"])["image"]

    digest = f"sha256:{'0' * 64}"
    version = helm.Chart.load(CHART).metadata["appVersion"]
    assert image() == f"auth0-provisioner:{version}"
    assert image(tag="9.9") == "auth0-provisioner:9.9"
    assert image(tag="9.9", digest=digest) == f"auth0-provisioner@{digest}"


def test_notes_say_what_to_do_next(topology: str) -> None:
    manifests = helm.Chart.load(CHART).render(_values(topology), name="prod", namespace="identity")
    (notes,) = (text for path, text in manifests.items() if path.endswith("NOTES.txt"))
    assert "provisioner doctor" in notes
    assert "provisioner org apply" in notes
    assert ("port-forward" in notes) is (topology == "single")


def test_defaults_alone_are_refused_since_the_tenant_is_missing() -> None:
    with pytest.raises(helm.HelmValuesError, match=r"(?s)auth0.*domain"):
        helm.Chart.load(CHART).validate_schema({})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unknown", 1),
        ("image.pullpolicy", "Always"),
        ("image.digest", "sha256:short"),
        ("topology", "many"),
        ("single.replicas", 0),
        ("single.replicas", "2"),
        ("roles.worker", {"replicas": 1}),
        ("roles.lanes.replicas", -1),
        ("roles.lanes.resources.limits.memory", "lots"),
        ("database.url", "postgresql://user:password@host/name"),
        ("database.existingSecret", ""),
        ("auth0.domain", "https://example.eu.auth0.com"),
        ("auth0.clientSecret", "in plain"),
        ("kafka.bootstrapServers", "kafka"),
        ("extraEnv", [{"name": "PATH", "value": "/"}]),
        ("extraSecrets", [{"variable": "PROVISIONER_X", "value": "in plain"}]),
        ("service.port", 70_000),
        ("ingress.enabled", True),
        ("podDisruptionBudget.maxUnavailable", 0),
        ("podLabels", {"app.kubernetes.io/name": "other"}),
    ],
)
def test_wrong_value_is_refused(path: str, value: object) -> None:
    chart, values = helm.Chart.load(CHART), _values("single")
    chart.validate_schema(values)
    wrong = _with(values, path, value)
    with pytest.raises(helm.HelmValuesError):
        chart.validate_schema(wrong)
    with pytest.raises(helm.HelmValuesError):
        chart.render(wrong)


def test_every_default_is_described_by_the_schema() -> None:
    chart = helm.Chart.load(CHART)
    schema = chart.schema
    assert schema is not None
    assert set(chart.values) == set(schema["properties"]) - {"global"}


def _with(values: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = deepcopy(values)
    *parents, last = path.split(".")
    place = changed
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return changed
