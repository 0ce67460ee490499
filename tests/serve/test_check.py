"""`serve.check`: the config that ships holds; misspelt keys, wrong arguments and unknown deployments do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serve.check import check, main

SHIPPED = Path("serve/config.yaml")


def altered(tmp_path: Path, place: str, value: object) -> Path:
    """The config that ships with one thing changed; `place` is dotted, numbers are positions."""
    tree = yaml.safe_load(SHIPPED.read_text())
    *above, last = place.split(".")
    at = tree
    for part in above:
        at = at[int(part)] if part.isdigit() else at[part]
    at[last] = value
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_the_config_that_ships_holds(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(SHIPPED)])
    assert capsys.readouterr().out == "serve/config.yaml: ok\n"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("http_optionz", {}, "http_optionz"),
        ("http_options.prot", 1, "http_options.prot"),
        (
            "applications.0.deployments.0.max_queued_request",
            5,
            r"applications\[0\].deployments\[0\].max_queued_request",
        ),
        ("applications.0.deployments.0.autoscaling_config.max_replica", 5, "autoscaling_config.max_replica"),
        ("applications.0.deployments.0.ray_actor_options.num_cpu", 5, "ray_actor_options.num_cpu"),
        ("applications.0.deployments.0.name", "gatway", "no deployment 'gatway'"),
        ("applications.0.args.rewriter", {}, "no deployment 'rewriter'"),
        ("applications.0.args.gateway.key", "x", "gateway.key"),
        ("applications.0.args.classifier.batch_tokens", "many", "classifier.batch_tokens"),
        ("applications.0.args.gateway.bands", {"review": 0.9, "block": 0.1}, "bands must rise"),
        ("applications.0.import_path", "serve.app:ap", "import_path must be serve.app:build"),
        ("http_options.port", "none", "http_options.port"),
        ("http_options.request_timeout_s", 30, "request_timeout_s must be above 55, was 30"),
        ("applications.0.runtime_env", {"pipp": []}, "runtime_env of the application .* pipp"),
        ("applications.0.deployments.0.ray_actor_options", {"runtime_env": {"env_varz": {}}}, "of gateway .* env_varz"),
        ("applications.0.deployments.1.user_config", {"a": 1}, "classifier takes no user_config"),
        ("applications.0.deployments.1.name", "gateway", "gateway is listed 2 times"),
        ("applications.0.deployments.0.autoscaling_config", {"min_replicas": 9, "max_replicas": 6}, "max_replicas"),
        ("applications", [], "must have one application, has 0"),
    ],
)
def test_what_serve_would_ignore_is_an_error(tmp_path: Path, place: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(altered(tmp_path, place, value))


def test_an_open_door_needs_keys(tmp_path: Path) -> None:
    path = altered(tmp_path, "http_options.host", "0.0.0.0")
    check(path)
    tree = yaml.safe_load(path.read_text())
    tree["applications"][0]["args"]["gateway"]["keys"] = ""
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match="0.0.0.0 lets others in, and without gateway.keys"):
        check(path)


def test_files_that_are_no_config(tmp_path: Path) -> None:
    repeated = "applications: []\nhttp_options:\n  port: 1\n  port: 2\n"
    for text, said in (("[", "cannot be read"), ("- a", "is no Serve config"), (repeated, "'port' is repeated")):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(ValueError, match=said):
            check(tmp_path / "c.yaml")
    with pytest.raises(SystemExit, match="cannot be read"):
        main([str(tmp_path / "gone.yaml")])
