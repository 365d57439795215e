"""The manifests fit Kubernetes' own schemas, name no setting that the code does not know, and hold no secret."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.quickstart.test_compose import known_variables
from tests.services import ROOT

FOLDER = ROOT / "ops" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
DOCUMENTS: list[tuple[str, dict[str, Any]]] = [
    (name, document)
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((FOLDER / name).read_text())
]
WORKLOADS = [(name, one) for name, one in DOCUMENTS if one["kind"] in ("Deployment", "Job")]
KUBERNETES = ("1.30", "1.34")


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize(
    "document", [one for _, one in DOCUMENTS], ids=[f"{one['kind']} {one['metadata']['name']}" for _, one in DOCUMENTS]
)
def test_a_manifest_fits_the_schema(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_check_bites() -> None:
    _, stream = next((name, one) for name, one in WORKLOADS if one["metadata"]["name"] == "stream")
    wrong = yaml.safe_load(yaml.safe_dump(stream))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


def test_every_file_of_the_folder_is_applied() -> None:
    others = {"kustomization.yaml"}
    assert {path.name for path in FOLDER.glob("*.yaml")} - others == set(KUSTOMIZATION["resources"])


def container_of(workload: dict[str, Any]) -> dict[str, Any]:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize(
    "workload", [one for _, one in WORKLOADS], ids=[one["metadata"]["name"] for _, one in WORKLOADS]
)
def test_a_pod_may_do_nothing_that_it_need_not(workload: dict[str, Any]) -> None:
    pod, container = workload["spec"]["template"]["spec"], container_of(workload)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["image"] == KUSTOMIZATION["images"][0]["name"]
    if workload["kind"] == "Deployment":
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


def test_stream_and_sink_run_in_several_and_share_the_partitions() -> None:
    replicas = {one["metadata"]["name"]: one["spec"].get("replicas") for _, one in WORKLOADS}
    partitions = int(dict(settings("settings.env"))["TRACEWATCH_KAFKA_PARTITIONS"])
    assert 1 < replicas["stream"] <= partitions
    assert 1 < replicas["sink"] <= partitions


def test_every_setting_is_known_to_the_code() -> None:
    given = {name for name, _ in settings("settings.env")}
    secrets = {name for name, _ in settings("secrets.example.env")}
    for _, workload in WORKLOADS:
        for variable in container_of(workload)["env"]:
            given.add(variable["name"])
            if "valueFrom" in variable:
                assert variable["valueFrom"]["secretKeyRef"]["key"] in secrets
    assert given - known_variables() == set()


def test_the_image_is_the_release_and_no_secret_is_in_the_repository() -> None:
    (image,) = KUSTOMIZATION["images"]
    release = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert release is not None and image["newTag"] == release[1]
    assert not (FOLDER / "secrets.env").exists() or "secrets.env" in (ROOT / ".gitignore").read_text()
    assert all(
        not value or "..." in value or name.endswith("USERNAME") for name, value in settings("secrets.example.env")
    )


def settings(name: str) -> list[tuple[str, str]]:
    lines = [line for line in (FOLDER / name).read_text().splitlines() if line and not line.startswith("#")]
    return [(line.partition("=")[0], line.partition("=")[2]) for line in lines]


def test_services_lead_to_pods() -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for _, one in WORKLOADS]
    for _, document in DOCUMENTS:
        if document["kind"] == "Service":
            assert document["spec"]["selector"] in labels
