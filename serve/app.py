"""The Serve application: `serve run serve.app:build classifier.model=RUN`, or `serve deploy serve/config.yaml`.

Three deployments: the classifier and the rewriter hold models, the gateway speaks HTTP. `build` puts them together;
`app` is built from the settings in the environment variable DETOX_SERVE (JSON), for tools that want a module-level
application. A changed model is rolled over with new replicas beside the old ones (`max_surge_percent`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any

from ray import serve as ray_serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve.classifier import ClassifierReplica
from serve.rewriter import RewriterReplica
from serve.settings import Args, GatewaySettings

SETTINGS = "DETOX_SERVE"
START_TIMEOUT_S = 600.0
COMMON: dict[str, Any] = {
    "health_check_period_s": 5,
    "health_check_timeout_s": 30,
    "max_constructor_retry_count": 3,
    "max_surge_percent": 100,
    "graceful_shutdown_timeout_s": 60,
}


class GatewayReplica:
    """What Serve runs; the gateway itself is made once the models say what they are."""

    def __init__(
        self, settings: dict[str, Any], classifier: DeploymentHandle, rewriter: DeploymentHandle | None
    ) -> None:
        self._settings = GatewaySettings.model_validate(settings)
        self._classifier, self._rewriter = classifier, rewriter

    async def __serve_build_asgi_app__(self) -> Any:
        from serve.gateway import Gateway
        from serve.handles import HandleJudge, HandleRewriting
        from serve.language import load_languages
        from serve.replicas import ReplicaCount
        from serve.translation import Translation

        load_languages()
        model = await asyncio.wait_for(self._classifier.facts.remote(), START_TIMEOUT_S)
        judge = HandleJudge(self._classifier, model)
        rewriting = None
        if self._rewriter is not None:
            facts = await asyncio.wait_for(self._rewriter.facts.remote(), START_TIMEOUT_S)
            rewriting = HandleRewriting(self._rewriter, facts)
        if mapping := self._settings.perspective_mapping:
            Translation.load(mapping).check(mapping, model.version)
        return Gateway(self._settings, judge, rewriting, ReplicaCount("gateway")).app


CLASSIFIER = ray_serve.deployment(
    name="classifier",
    max_ongoing_requests=64,
    max_queued_requests=256,
    ray_actor_options={"num_cpus": 0.5},
    **COMMON,
)(ClassifierReplica)
REWRITER = ray_serve.deployment(
    name="rewriter",
    max_ongoing_requests=128,
    max_queued_requests=512,
    ray_actor_options={"num_cpus": 0.5},
    **COMMON,
)(RewriterReplica)
GATEWAY = ray_serve.deployment(
    name="gateway",
    # the gateway's own limits come first: they answer in the vendor's words
    max_ongoing_requests=8192,
    max_queued_requests=1024,
    backpressure_config={"status_code": 503, "retry_after_s": 1},
    ray_actor_options={"num_cpus": 0.1},
    **COMMON,
)(ray_serve.ingress()(GatewayReplica))


def build(args: dict[str, Any]) -> Application:
    """The application of these settings, which may have dotted keys as `serve run` gives them.

    Raises:
        ValueError: settings that do not hold.
    """
    settings = Args.model_validate(undotted(args))
    classifier = CLASSIFIER.bind(settings.classifier.model_dump(mode="json"))
    rewriter = REWRITER.bind(settings.rewriter.model_dump(mode="json")) if settings.rewriter.model else None
    return GATEWAY.bind(settings.gateway.model_dump(mode="json"), classifier, rewriter)


def undotted(args: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`.

    Raises:
        ValueError: a key that is set twice, or below one that is no group.
    """
    tree: dict[str, Any] = {}
    for key, value in args.items():
        *above, last = key.split(".")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ValueError(f"{key} is set, and {part} is set to a value: give one or the other")
        _add(place, last, value, key)
    return tree


def _add(place: dict[str, Any], name: str, value: Any, key: str) -> None:
    if isinstance(value, Mapping) and isinstance(group := place.setdefault(name, {}), dict):
        for below, its in value.items():
            _add(group, below, its, f"{key}.{below}")
    elif name in place:
        raise ValueError(f"{key} is set twice: give it once")
    else:
        place[name] = value


def __getattr__(name: str) -> Any:
    """`app`, built when it is asked for: importing this module does nothing."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if SETTINGS not in os.environ:
        raise AttributeError(f'serve.app:app needs {SETTINGS}, for example {{"classifier": {{"model": "RUN_DIR"}}}}')
    return build(json.loads(os.environ[SETTINGS]))
