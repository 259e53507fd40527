"""Kubernetes manifests: the output of Kustomize is valid and agrees with the code.

Needs a `kubectl` with Kustomize 5; skipped without it.
"""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import serving
from deploy import settings_table
from serving.__main__ import _parser
from serving.api import server
from serving.api.app import create_app
from serving.api.http.validation import MAX_BODY_BYTES
from serving.api.settings import PREFIX, Settings
from serving.api.telemetry.metrics import Metrics

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ["cpu", "gpu", "keda"]
EXAMPLES = ["ingress", "bulk-job", "ray-job"]
VERSION = "1.34"  # of Kubernetes
OTHERS = {"keda.sh/v1alpha1", "ray.io/v1"}  # API groups of custom resources
MARGIN = 5  # seconds between the end of the drain and the kill of a pod


def kustomize(overlay: str) -> list[dict[str, Any]]:
    kubectl = shutil.which("kubectl")
    found = kubectl and subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True).stdout
    version = re.search(r"Kustomize Version: v(\d+)", found or "")
    if version is None or int(version[1]) < 5:
        pytest.skip("kubectl with Kustomize 5 is not installed")
    command = [str(kubectl), "kustomize", str(FOLDER / "overlays" / overlay)]
    return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


rendered = cache(kustomize)


def example(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "examples" / f"{name}.yaml").read_text()))


def of_kind(overlay: str, kind: str) -> dict[str, Any]:
    (found,) = [document for document in rendered(overlay) if document["kind"] == kind]
    return found


def container(overlay: str) -> dict[str, Any]:
    (found,) = of_kind(overlay, "Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def pods(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the specs of all pods that a document creates."""
    match document["kind"]:
        case "Deployment" | "Job":
            return [document["spec"]["template"]["spec"]]
        case "RayJob":
            cluster = document["spec"]["rayClusterSpec"]
            groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
            return [group["template"]["spec"] for group in groups]
        case _:
            return []


ALL_PODS = [(name, pod) for name in EXAMPLES for document in example(name) for pod in pods(document)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid(overlay: str):
    documents = rendered(overlay)
    kinds = {document["kind"] for document in documents}
    scaler = "ScaledObject" if overlay == "keda" else "HorizontalPodAutoscaler"
    assert kinds == {"Namespace", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", scaler}
    for document in documents:
        if document["apiVersion"] not in OTHERS:
            kubernetes_validate.validate(document, VERSION, strict=True)
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "ganymede"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_valid(name: str):
    for document in example(name):
        if document["apiVersion"] not in OTHERS:
            kubernetes_validate.validate(document, VERSION, strict=True)
        for pod in pods(document):
            whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
            kubernetes_validate.validate(whole, VERSION, strict=True)


def test_a_mistake_in_a_manifest_is_found():
    """The schemas are strict. Otherwise the two tests above could not fail."""
    wrong = of_kind("cpu", "Service") | {"spec": {"ports": [{"port": "eighty"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)
    unknown = of_kind("cpu", "Service") | {"spec": {"ports": [{"port": 80, "prot": "TCP"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(unknown, VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ports_and_paths_match_the_service(overlay: str):
    deployment, served = of_kind(overlay, "Deployment"), container(overlay)
    (port,) = served["ports"]
    assert port["containerPort"] == _parser().parse_args(["serve"]).port
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert served[probe]["httpGet"]["port"] == port["name"]
        assert served[probe]["httpGet"]["path"] in paths()
    asked = {probe: served[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")}
    assert asked == {"readinessProbe": "/readyz", "livenessProbe": "/livez"}
    notes = deployment["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(port["containerPort"]) and notes["prometheus.io/path"] in paths()
    assert of_kind(overlay, "Service")["spec"]["ports"][0]["targetPort"] == port["name"]
    assert of_kind(overlay, "NetworkPolicy")["spec"]["ingress"][0]["ports"] == [{"port": port["name"]}]


def paths() -> set[str]:
    return {getattr(route, "path", "") for route in create_app(Settings.from_environment({})).routes}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_match_the_labels_of_the_pods(overlay: str):
    deployment = of_kind(overlay, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": "ganymede"}
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert of_kind(overlay, "Service")["spec"]["selector"] == labels
    assert of_kind(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"] == labels


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_time_to_drain(overlay: str):
    """The grace period covers preStop, the failing readiness probe, and the replies to all accepted requests."""
    served = container(overlay)
    settings = Settings.from_environment({setting["name"]: setting["value"] for setting in served["env"]})
    sleep = served["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = of_kind(overlay, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= sleep + settings.drain + settings.timeout + server.GRACE_SECONDS + MARGIN
    probe = served["readinessProbe"]
    assert settings.drain >= probe["periodSeconds"] * probe["failureThreshold"], (
        "otherwise requests arrive after the drain"
    )
    liveness = served["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > settings.drain


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_environment_variables_are_known_settings(overlay: str):
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | settings_table.OTHERS.keys()
    assert {setting["name"] for setting in container(overlay)["env"]} <= known


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_no_privileges_and_the_user_of_the_image(overlay: str):
    pod = of_kind(overlay, "Deployment")["spec"]["template"]["spec"]
    restricted(pod, read_only=True)
    assert pod["automountServiceAccountToken"] is False
    (served,) = pod["containers"]
    (mount,) = served["volumeMounts"]
    assert mount["mountPath"] == "/tmp" and pod["volumes"][0]["emptyDir"]


@pytest.mark.parametrize(("name", "pod"), ALL_PODS, ids=[name for name, _ in ALL_PODS])
def test_pods_of_examples_have_no_privileges(name: str, pod: dict[str, Any]):
    restricted(pod, read_only=name != "ray-job")  # Ray writes into many folders


def restricted(pod: dict[str, Any], *, read_only: bool) -> None:
    """Assert the `restricted` Pod Security Standard and the user of the Containerfile."""
    user, group = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Containerfile").read_text(), re.M)[0]
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
    for part in pod["containers"]:
        own = part["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}
        assert own.get("readOnlyRootFilesystem", False) is read_only
        assert part["resources"]["limits"].keys() >= {"cpu", "memory"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_has_the_version_of_the_code(overlay: str):
    tag = f"{serving.__version__}-cuda" if overlay == "gpu" else serving.__version__
    assert container(overlay)["image"] == f"ganymede:{tag}"


def test_images_of_examples_have_the_version_of_the_code():
    images = {part["image"] for _, pod in ALL_PODS for part in pod["containers"]}
    assert images == {f"ganymede:{serving.__version__}-bulk"}


def test_the_gpu_overlay_requests_one_gpu():
    resources = container("gpu")["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in container("cpu")["resources"]["limits"]


def test_autoscalers_and_their_rules_use_a_known_metric():
    (metric,) = of_kind("cpu", "HorizontalPodAutoscaler")["spec"]["metrics"]
    (trigger,) = of_kind("keda", "ScaledObject")["spec"]["triggers"]
    adapter = (FOLDER / "examples" / "prometheus-adapter.yaml").read_text()
    name = metric["pods"]["metric"]["name"]
    assert f"# TYPE {name} gauge" in Metrics().render([]).decode()
    assert set(re.findall(r"ganymede_\w+", trigger["metadata"]["query"] + adapter)) == {name}
    assert metric["pods"]["target"]["averageValue"] == trigger["metadata"]["threshold"]
    hpa, scaled = of_kind("cpu", "HorizontalPodAutoscaler")["spec"], of_kind("keda", "ScaledObject")["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (scaled["minReplicaCount"], scaled["maxReplicaCount"])
    assert hpa["scaleTargetRef"]["name"] == scaled["scaleTargetRef"]["name"] == "ganymede"
    assert "replicas" not in of_kind("cpu", "Deployment")["spec"], "otherwise each apply resets the number of pods"


def test_the_limits_of_the_ingress_match_the_service():
    (ingress,) = example("ingress")
    notes = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
    assert notes["proxy-body-size"] == f"{MAX_BODY_BYTES >> 10}k"
    assert int(notes["proxy-read-timeout"]) > Settings.from_environment({}).timeout
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    service = of_kind("cpu", "Service")
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


def test_the_bulk_job_splits_the_work_like_the_command():
    (job,) = example("bulk-job")
    (part,) = job["spec"]["template"]["spec"]["containers"]
    args = [value.replace("$(JOB_COMPLETION_INDEX)", "99") for value in part["args"]]
    parsed = _parser().parse_args(args)
    assert parsed.part == (99, job["spec"]["completions"]) and parsed.out == "/data/digits"
    assert job["spec"]["completionMode"] == "Indexed"
    assert part["env"][0]["name"] == "JOB_COMPLETION_INDEX"


def test_the_ray_job_runs_a_valid_command_and_the_locked_ray():
    (job,) = example("ray-job")
    command = job["spec"]["entrypoint"].split()
    parsed = _parser().parse_args(command[command.index("serving") + 1 :])
    assert parsed.engine == ["ray"]
    lock = (ROOT / "requirements" / "bulk.txt").read_text()
    assert f"\nray=={job['spec']['rayClusterSpec']['rayVersion']} " in lock
