"""The Kubernetes manifests are valid, say what the code says, and give no pod more than it needs."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from flywheel.observe import ServiceSettings
from flywheel.observe.settings import variable_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "k8s"
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))
MODULES = {
    **{name: f"flywheel_{name}.settings" for name in SERVICES},
    "registry": "flywheel.local.registry",
    "topics": "flywheel.local.create_topics",
}
DOCUMENTS = {
    (path.stem, document["kind"]): document
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
}
WORKLOADS = {name: doc for (name, kind), doc in DOCUMENTS.items() if kind in {"Deployment", "StatefulSet", "Job"}}
SERVING = sorted(set(WORKLOADS) - {"topics"})
# The oldest release that still gets fixes, and the newest that the schemas know.
RELEASES = ["1.34", "1.37"]


def settings_of(name):
    """The settings model of a workload."""
    module = importlib.import_module(MODULES[name])
    (model,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, ServiceSettings) and value.__module__ == module.__name__
    ]
    return model


def container_of(name):
    """The one container of a workload."""
    (container,) = WORKLOADS[name]["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("document", DOCUMENTS, ids="/".join)
def test_every_manifest_is_valid(document, release):
    kubernetes_validate.validate(DOCUMENTS[document], release, strict=True)


def test_a_misspelt_field_would_be_found():
    wrong = DOCUMENTS["ingest", "Service"] | {"spec": {"selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[0], strict=True)


def test_every_service_has_a_workload_a_service_and_a_disruption_budget():
    assert set(SERVICES) < set(WORKLOADS)
    for name in SERVING:
        labels = WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]
        selectors = [
            WORKLOADS[name]["spec"]["selector"]["matchLabels"],
            DOCUMENTS[name, "Service"]["spec"]["selector"],
            DOCUMENTS[name, "PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        ]
        assert all(selector.items() <= labels.items() for selector in selectors)
        assert DOCUMENTS[name, "PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_every_setting_is_one_that_the_service_knows(name):
    container = container_of(name)
    fields = settings_of(name).model_fields
    known = {variable_of(field_name, field) for field_name, field in fields.items()}
    variables = {entry["name"] for entry in container.get("env", [])}
    if "envFrom" in container:
        assert container["envFrom"] == [{"configMapRef": {"name": "flywheel"}}]
        variables |= set(DOCUMENTS["common", "ConfigMap"]["data"])
    for variable in variables:
        assert variable.removesuffix("_FILE") in known, f"{name} has no setting {variable}"


@pytest.mark.parametrize("name", SERVING)
def test_ports_and_probes_are_where_the_service_has_them_by_default(name):
    defaults = {field_name: field.default for field_name, field in settings_of(name).model_fields.items()}
    container = container_of(name)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    expected = {"http": defaults["port"], "grpc": defaults.get("grpc_port"), "ops": defaults["ops_port"]}
    assert ports.items() <= expected.items()
    assert {port["targetPort"]: port["port"] for port in DOCUMENTS[name, "Service"]["spec"]["ports"]} == ports
    health = "ops" if defaults["ops_port"] is not None else "http"
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": health}
    for probe in ("livenessProbe", "startupProbe"):
        assert container[probe]["httpGet"] == {"path": "/live", "port": health}


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_pod_runs_without_rights_and_within_bounds(name):
    pod, container = WORKLOADS[name]["spec"]["template"]["spec"], container_of(name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    image = "local" if name in {"registry", "topics"} else name
    member = ROOT / "infra/local" if image == "local" else ROOT / "services" / image
    version = tomllib.loads((member / "pyproject.toml").read_text())["project"]["version"]
    assert container["image"] == f"flywheel/{image}:{version}"


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_secrets_are_mounted_files_and_every_mount_has_its_volume(name):
    spec, container = WORKLOADS[name]["spec"], container_of(name)
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"].get("volumes", [])}
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == set(volumes) | claims
    assert ("state" in claims) == (WORKLOADS[name]["kind"] == "StatefulSet")
    for entry in container.get("env", []):
        assert "valueFrom" not in entry
        if entry["name"].endswith("_FILE"):
            keys = {item["path"] for item in volumes["secrets"]["secret"]["items"]}
            assert Path(entry["value"]).parent == Path(mounts["secrets"])
            assert Path(entry["value"]).name in keys


def test_no_secret_is_in_a_manifest():
    assert not [document for document in DOCUMENTS.values() if document["kind"] == "Secret"]
