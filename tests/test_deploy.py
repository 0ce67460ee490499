"""The Kubernetes manifests: no key that KubeRay would drop, a Serve config that holds, one image, one Ray."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.check import check
from tests.hub import ROOT

SERVICE, JOB = (yaml.safe_load((ROOT / "deploy" / name).read_text()) for name in ("rayservice.yaml", "rayjob.yaml"))
CONFIG = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()
KNOWN = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "metadata": {"name", "generateName", "labels", "annotations", "namespace"},
    "spec": {
        "RayService": {
            "serveConfigV2", "rayClusterConfig", "upgradeStrategy", "serviceUnhealthySecondThreshold",
            "deploymentUnhealthySecondThreshold", "serveService", "excludeHeadPodFromServeSvc",
            "rayClusterDeletionDelaySeconds", "suspend", "managedBy",
        },
        "RayJob": {
            "entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit",
            "activeDeadlineSeconds", "runtimeEnvYAML", "jobId", "submissionMode", "entrypointNumCpus",
            "entrypointNumGpus", "entrypointResources", "metadata", "submitterPodTemplate", "submitterConfig",
            "suspend", "clusterSelector", "deletionStrategy", "managedBy", "preRunningDeadlineSeconds",
        },
    },
    "cluster": {
        "rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling",
        "autoscalerOptions", "gcsFaultToleranceOptions", "headServiceAnnotations", "suspend", "managedBy",
        "upgradeStrategy", "networkPolicy", "tlsOptions",
    },
    "head": {"rayStartParams", "template", "enableIngress", "headService", "serviceType", "resources", "labels"},
    "worker": {
        "groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template", "idleTimeoutSeconds",
        "numOfHosts", "scaleStrategy", "suspend", "resources", "labels",
    },
    "resources": {"limits", "requests"},
    "variable": {"name", "value", "valueFrom"},
    "mount": {"name", "mountPath", "readOnly", "subPath"},
    "volume": {"name", "persistentVolumeClaim", "secret", "configMap", "emptyDir"},
    "template": {"spec", "metadata"},
    "pod": {"containers", "volumes", "nodeSelector", "tolerations", "serviceAccountName", "initContainers", "affinity"},
    "container": {"name", "image", "resources", "volumeMounts", "env", "ports", "lifecycle", "securityContext"},
}  # fmt: skip
"""Fields of ray.io/v1 in KubeRay 1.6 (docs.ray.io, KubeRay CRD API reference), and those of a pod that are used."""


def cluster(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return dict(spec.get("rayClusterConfig") or spec["rayClusterSpec"])


def groups(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster(manifest)["headGroupSpec"], *cluster(manifest)["workerGroupSpecs"]]


def containers(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in groups(manifest):
        yield from group["template"]["spec"]["containers"]


@pytest.mark.parametrize("manifest", [SERVICE, JOB], ids=["service", "job"])
def test_every_key_is_one_that_kuberay_knows(manifest: dict[str, Any]) -> None:
    kind: Any = KNOWN["spec"]
    head, *workers = groups(manifest)
    assert manifest["apiVersion"] == "ray.io/v1"
    assert manifest.keys() <= KNOWN[""]
    assert manifest["metadata"].keys() <= KNOWN["metadata"]
    assert manifest["spec"].keys() <= kind[manifest["kind"]]
    assert cluster(manifest).keys() <= KNOWN["cluster"]
    assert head.keys() <= KNOWN["head"]
    assert all(worker.keys() <= KNOWN["worker"] for worker in workers)
    assert all(group["template"]["spec"].keys() <= KNOWN["pod"] for group in groups(manifest))
    assert all(group["template"].keys() <= KNOWN["template"] for group in groups(manifest))
    for container in containers(manifest):
        assert container.keys() <= KNOWN["container"]
        assert container["resources"].keys() <= KNOWN["resources"]
        assert all(variable.keys() <= KNOWN["variable"] for variable in container.get("env", ()))
        assert all(mount.keys() <= KNOWN["mount"] for mount in container["volumeMounts"])
    volumes = [volume for group in groups(manifest) for volume in group["template"]["spec"]["volumes"]]
    assert all(volume.keys() <= KNOWN["volume"] for volume in volumes)


@pytest.mark.parametrize("manifest", [SERVICE, JOB], ids=["service", "job"])
def test_the_cluster_is_one_that_works(manifest: dict[str, Any]) -> None:
    """The version that is installed here, with its token; the head takes no work; each mount has its volume."""
    assert cluster(manifest)["rayVersion"] == version("ray")
    assert cluster(manifest)["authOptions"] == {"mode": "token"}
    assert cluster(manifest)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in groups(manifest):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]} <= volumes
    assert len({container["image"] for container in containers(manifest)}) == 1
    [image] = {container["image"] for container in containers(manifest)}
    assert f"-t {image} ." in CONTAINERFILE
    assert f"rayproject/ray:{version('ray')}-" in CONTAINERFILE


def test_the_serve_config_inside_holds(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SERVICE["spec"]["serveConfigV2"])
    [application] = check(path).applications
    mounts = {mount["mountPath"] for one in containers(SERVICE) for mount in one["volumeMounts"]}
    paths = re.findall(r"/[\w./]+", str({key: application.args[key] for key in application.args}))
    assert all(any(found.startswith(mount) for mount in mounts) for found in paths)


@pytest.mark.parametrize("config", [yaml.safe_load(SERVICE["spec"]["serveConfigV2"]), CONFIG], ids=["service", "file"])
def test_there_are_as_many_gateways_as_a_roll_over_needs(config: dict[str, Any]) -> None:
    """docs/serving.md says why."""
    [gateway] = [one for one in config["applications"][0]["deployments"] if one["name"] == "gateway"]
    assert gateway["autoscaling_config"]["min_replicas"] >= 3


def test_the_job_is_one_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    from rayjobs.train_classifier import main

    python, flag, module, *words = shlex.split(JOB["spec"]["entrypoint"])
    assert (python, flag, module) == ("python", "-m", "rayjobs.train_classifier")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [module, *words, "--dry-run"])
        main()
    assert "s3://BUCKET/runs" in capsys.readouterr().out


def test_what_the_image_copies_is_there() -> None:
    copied = [line.split()[1:] for line in CONTAINERFILE.splitlines() if line.startswith("COPY")]
    sources = [name for words in copied for name in words[:-1] if not name.startswith("--")]
    assert {"detox", "rayjobs", "serve", "tune_spaces", "constraints.txt"} <= set(sources)
    assert all((ROOT / name).exists() for name in sources)
