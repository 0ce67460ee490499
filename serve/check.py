"""`python -m serve.check [serve/config.yaml]`: is this a config that Serve will take as it was meant?

Serve's own schema ignores keys that it does not know, at most levels; a misspelt limit is then no limit. Here an
unknown key anywhere is an error, the application's `args` are held against `serve.settings.Args`, and so are the
deployments: there is a `rewriter` only where `args` name one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from serve.limits import ANSWER_SECONDS
from serve.settings import Args, check_exposure

DEPLOYMENTS = ("gateway", "classifier", "rewriter")
IMPORT_PATH = "serve.app:build"


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML's loader would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Raises:
        ConstructorError: a repeated key, and its line.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} is repeated", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def check(path: Path) -> ServeDeploySchema:
    """The config in `path`.

    Raises:
        ValueError: not YAML, an unknown or repeated key, a value of the wrong type or range, or arguments that the
            application refuses; says where.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} is no Serve config: it must be a mapping with `applications`")
    try:
        config = ServeDeploySchema.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"{path}: {error}") from None
    if unknown := list(unknown_keys(tree, ServeDeploySchema)):
        raise ValueError(f"{path} has keys that Serve does not know, and would ignore: {', '.join(unknown)}")
    if len(config.applications) != 1:
        raise ValueError(f"{path} must have one application, has {len(config.applications)}: rates are counted for one")
    [application], [given] = config.applications, tree["applications"]
    if application.import_path != IMPORT_PATH:
        raise ValueError(f"{path}: import_path must be {IMPORT_PATH}, was {application.import_path}")
    try:
        args = Args.model_validate(application.args)
    except ValidationError as error:
        raise ValueError(f"{path}: args of {application.name}: {error}") from None
    try:
        check_exposure(config.http_options.host, args.gateway)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    seconds = config.http_options.request_timeout_s
    if seconds is not None and seconds <= ANSWER_SECONDS:
        raise ValueError(
            f"{path}: http_options.request_timeout_s must be above {ANSWER_SECONDS:.0f}, was {seconds}: Serve would "
            "give up a request before the gateway refuses it in the vendor's words"
        )
    made = [name for name in DEPLOYMENTS if name != "rewriter" or args.rewriter.model]
    for deployment in application.deployments:
        if deployment.name not in made:
            raise ValueError(f"{path}: there is no deployment {deployment.name!r}: choose one of {', '.join(made)}")
    check_deployments(path, given.get("deployments", []))
    check_runtime_env(path, "the application", given.get("runtime_env"))
    return config


def check_deployments(path: Path, deployments: Sequence[Mapping[str, Any]]) -> None:
    """What Serve's schema leaves open.

    Raises:
        ValueError: a deployment that is listed twice, bounds that cross, or settings that ours do not take.
    """
    names = [str(one["name"]) for one in deployments]
    for one in deployments:
        name = one["name"]
        if names.count(name) > 1:
            raise ValueError(f"{path}: the deployment {name} is listed {names.count(name)} times: list it once")
        if one.get("user_config"):
            raise ValueError(f"{path}: {name} takes no user_config: its settings are `args` of the application")
        if isinstance(scaling := one.get("autoscaling_config"), dict):
            try:
                AutoscalingConfig.model_validate(scaling)
            except ValidationError as error:
                raise ValueError(f"{path}: autoscaling_config of {name}: {error}") from None
        check_runtime_env(path, name, (one.get("ray_actor_options") or {}).get("runtime_env"))


def check_runtime_env(path: Path, whose: str, given: Any) -> None:
    """Raises:
    ValueError: a key that Ray does not know, and would ignore.
    """
    if unknown := sorted(set(given or {}) - RuntimeEnv.known_fields):
        raise ValueError(f"{path}: runtime_env of {whose} has keys that Ray does not know: {', '.join(unknown)}")


def unknown_keys(tree: Any, schema: Any, place: str = "") -> Iterator[str]:
    """Dotted places of keys that the schema does not have, at every level."""
    if isinstance(tree, list):
        for position, item in enumerate(tree):
            yield from unknown_keys(item, schema, f"{place}[{position}]")
    model = _model_in(schema)
    if not isinstance(tree, dict) or model is None:
        return
    for key, value in tree.items():
        at = f"{place}.{key}" if place else str(key)
        if key not in model.model_fields:
            yield at
        else:
            yield from unknown_keys(value, model.model_fields[key].annotation, at)


def _model_in(hint: Any) -> type[BaseModel] | None:
    """The pydantic model that an annotation is, or holds: `X`, `X | None`, `list[X]`."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    return next((found for part in get_args(hint) if (found := _model_in(part)) is not None), None)


def main(arguments: Sequence[str] | None = None) -> None:
    paths = list(sys.argv[1:] if arguments is None else arguments) or [str(Path(__file__).parent / "config.yaml")]
    for path in paths:
        try:
            check(Path(path))
        except ValueError as error:
            raise SystemExit(str(error)) from None
        print(f"{path}: ok")


if __name__ == "__main__":
    main()
