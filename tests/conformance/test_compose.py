"""``docker-compose.yml`` is a valid Compose file and says what the code says. It can't be run where these tests run."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

from flywheel.events import topics
from flywheel.local.kafka import node_properties
from flywheel.local.kafka_home import kafka_version
from flywheel.local.parts import PARTS
from flywheel.local.secret_files import make_compose_secrets
from flywheel.observe import DECLARATIONS, ServiceSettings
from flywheel.observe.settings import variable_of

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINERS = COMPOSE["services"]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))
# Containers of our own code, and where the model of their settings is.
SETTINGS = {
    **{name: f"flywheel_{name}.settings" for name in SERVICES},
    "registry": "flywheel.local.registry",
    "topics": "flywheel.local.create_topics",
}


def settings_of(container):
    """The settings model of a container of ours."""
    module = importlib.import_module(SETTINGS[container])
    (model,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, ServiceSettings) and value.__module__ == module.__name__
    ]
    return model


def defaults(model):
    """A setting's default by its name."""
    return {name: field.default for name, field in model.model_fields.items()}


def health_port(model):
    """Where a service answers /ready."""
    values = defaults(model)
    return values["ops_port"] if values["ops_port"] is not None else values["port"]


def test_it_is_a_valid_compose_file():
    schema = json.loads(
        resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    )
    jsonschema.validate(COMPOSE, schema, cls=jsonschema.validators.validator_for(schema))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(COMPOSE | {"services": {"kafka": {"imagee": "x"}}}, schema)


def test_every_service_has_a_container_of_its_own_image():
    for name in SERVICES:
        assert CONTAINERS[name]["build"]["dockerfile"] == f"services/{name}/Dockerfile"
    for container in CONTAINERS.values():
        if "build" in container:
            assert (ROOT / container["build"]["context"] / container["build"]["dockerfile"]).is_file()


def test_every_service_that_a_topic_names_has_a_container():
    named = {service for topic in topics().values() for service in topic.consumers + topic.producers}
    assert named & set(SERVICES) == set(SERVICES)
    assert named & set(SERVICES) <= set(CONTAINERS)


def test_the_declared_topics_are_created_before_anything_reads_them():
    assert CONTAINERS["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert CONTAINERS["topics"]["entrypoint"] == ["python", "-m", "flywheel.local.create_topics"]
    for name in SERVICES:
        assert CONTAINERS[name]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("container", sorted(SETTINGS))
def test_every_setting_is_one_that_the_service_knows(container):
    fields = settings_of(container).model_fields
    known = {variable_of(name, field): field for name, field in fields.items()}
    for variable, value in CONTAINERS[container].get("environment", {}).items():
        assert variable.removesuffix("_FILE") in known, f"{container} has no setting {variable}"
        if variable.endswith("_FILE"):
            assert Path(value).parent == Path("/run/secrets")
    assert "FLYWHEEL_KAFKA_BOOTSTRAP" in CONTAINERS[container].get("environment", {}) or container == "registry"


@pytest.mark.parametrize("container", sorted(set(SETTINGS) - {"topics"}))
def test_ports_and_health_are_where_the_service_has_them_by_default(container):
    model = settings_of(container)
    values = defaults(model)
    published = {int(port.rsplit(":", 1)[1]) for port in CONTAINERS[container]["ports"]}
    # With a ClickHouse server the recorder's SQL endpoint is off, and 8123 is the server's.
    own = {"ops_port"} if container == "recorder" else {"port", "grpc_port", "ops_port"}
    # A service without a main port of its own (the bandit) leaves it at 0.
    assert published == {values[name] for name in own if values.get(name)}
    probe = " ".join(CONTAINERS[container]["healthcheck"]["test"])
    assert f"http://127.0.0.1:{health_port(model)}/ready" in probe


@pytest.mark.parametrize("part", sorted(PARTS))
def test_the_local_runtime_has_the_same_default_ports(part):
    model, ports = settings_of(part), PARTS[part].ports
    values = defaults(model)
    for name, variable in PARTS[part].port_settings.items():
        field = variable.removeprefix("FLYWHEEL_").lower()
        assert values[field] == ports[name], f"{part} listens on {values[field]} for {name}"
    assert ports[PARTS[part].health] == health_port(model)
    settings = {variable_of(name, field) for name, field in model.model_fields.items()}
    assert {*PARTS[part].port_settings.values(), *PARTS[part].folders, *PARTS[part].secrets} <= settings


@pytest.mark.parametrize("container", sorted(CONTAINERS))
def test_a_container_is_reached_from_this_machine_only_and_has_no_rights_it_does_not_need(container):
    declared = CONTAINERS[container]
    for port in declared.get("ports", []):
        assert port.startswith("127.0.0.1:")
    assert declared["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in declared["security_opt"]
    assert not {"privileged", "network_mode", "pid", "devices", "cap_add"} & set(declared)
    assert declared.get("read_only") or container in {"kafka", "clickhouse"}
    assert str(declared.get("user", "10001")).split(":")[0] not in {"0", "root"}
    if container != "topics":
        assert "healthcheck" in declared


@pytest.mark.parametrize("container", sorted(CONTAINERS))
def test_images_are_pinned_or_built_here(container):
    declared = CONTAINERS[container]
    tag = re.fullmatch(r"[a-z/-]+:(v?\d+[\d.]*)", declared["image"])
    assert ("build" in declared) != bool(tag)


@pytest.mark.parametrize("container", sorted(CONTAINERS))
def test_secrets_are_files_and_every_one_is_declared(container):
    declared = CONTAINERS[container]
    for variable, value in declared.get("environment", {}).items():
        if re.search(r"PASSWORD|KEY|TOKEN|SECRET|URL", variable):
            assert variable.endswith("_FILE"), f"{container}: {variable} belongs in a file"
        if str(value).startswith("/run/secrets/"):
            assert Path(value).name in declared["secrets"]
    assert set(declared.get("secrets", [])) <= set(COMPOSE["secrets"])


def test_the_secrets_are_those_that_one_command_makes(tmp_path):
    make_compose_secrets(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(COMPOSE["secrets"])
    for name, secret in COMPOSE["secrets"].items():
        assert secret["file"].endswith(f"/{name}")


def test_volumes_are_declared_and_used():
    used = {
        mount.split(":")[0]
        for container in CONTAINERS.values()
        for mount in container.get("volumes", [])
        if not mount.startswith(".")
    }
    assert used == set(COMPOSE["volumes"])
    for container in CONTAINERS.values():
        for mount in container.get("volumes", []):
            if mount.startswith("."):
                assert (ROOT / mount.split(":")[0]).exists()
                assert mount.endswith(":ro")
    for name in SERVICES:
        assert CONTAINERS[name]["volumes"] == [f"{name}:/var/lib/flywheel"]


def test_kafka_is_the_version_and_has_the_settings_of_the_local_runtime():
    kafka = CONTAINERS["kafka"]
    assert kafka["image"] == f"apache/kafka:{kafka_version()}"
    local = node_properties(port=1, controller_port=2, advertised="a:1", log_dir=Path("/x"))
    own = {"listeners", "advertised.listeners", "listener.security.protocol.map", "log.dirs"}
    shared = {
        key.removeprefix("KAFKA_").lower().replace("_", "."): value
        for key, value in kafka["environment"].items()
        if key.startswith("KAFKA_")
    }
    both = shared.keys() & local.keys() - own
    assert {"auto.create.topics.enable", "log.message.timestamp.type", "offsets.topic.replication.factor"} <= both
    assert {key: shared[key] for key in both} == {key: local[key] for key in both}


def test_clickhouse_is_the_version_of_the_embedded_engine():
    # In a process of its own: the engine takes 300 MB.
    program = "import chdb; print(chdb.query('SELECT version()', 'TabSeparatedRaw'))"
    engine = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert CONTAINERS["clickhouse"]["image"].split(":")[1] == ".".join(engine.split(".")[:2])


def test_prometheus_scrapes_every_service_where_it_has_its_metrics():
    scraped = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in scraped for group in job["static_configs"] for target in group["targets"]}
    assert targets == {f"{name}:{health_port(settings_of(name))}" for name in [*SERVICES, "registry"]}


def test_the_dashboard_shows_metrics_that_exist_by_labels_that_they_have():
    declared = {f"flywheel_{metric.name}": metric for metric in DECLARATIONS}
    board = json.loads((ROOT / "infra/grafana/dashboards/flywheel.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            (name,) = set(re.findall(r"flywheel_\w+", target["expr"]))
            metric = declared[name.removesuffix("_bucket")]
            (grouped,) = re.findall(r"by \(([^)]*)\)", target["expr"])
            assert set(grouped.split(", ")) <= {*metric.labels, "le", "service"}, panel["title"]
