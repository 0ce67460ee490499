"""`python -m serve.local --classifier.model RUN [--rewriter.model RUN] [--port 8000]`: the service on this machine.

What `make serve` runs: a Ray of its own, on this machine only, HAProxy before the gateway, until Ctrl-C. On a cluster
it is `serve deploy serve/config.yaml`.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from detox.runs.config import override
from serve.haproxy import environment
from serve.settings import LOCAL, Args, ClassifierSettings, GatewaySettings

OWN_PORTS = {
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
}
"""Beside the service's own; another service on this machine may have them."""


class LocalArgs(Args):
    """The application, and where it listens."""

    gateway: GatewaySettings = GatewaySettings(feedback="runs/feedback")
    classifier: ClassifierSettings = ClassifierSettings(model="runs/train-classifier-demo-s42")
    host: str = "127.0.0.1"
    """Another address opens the service to others: only with `gateway.keys`, and behind TLS."""
    port: int = Field(default=8000, ge=1, le=65535)


def main(arguments: Sequence[str] | None = None) -> None:
    import tyro

    settings = tyro.cli(LocalArgs, args=arguments, prog="python -m serve.local", description=__doc__)
    try:
        check(settings)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    start(settings)
    shown = f"http://{settings.host}:{settings.port}"
    print(f"page:    {shown}/\nAPI:     {shown}/openapi.json\nmetrics: {metrics_url()}")
    print(f"model:   {settings.classifier.model}\nCtrl-C ends it.")
    sys.stdout.flush()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    end()


def check(settings: LocalArgs) -> None:
    """What would fail in a replica minutes later, said now.

    Raises:
        ValueError: an artifact that may not be served, or an open door.
    """
    from serve.artifacts import servable
    from serve.translation import Translation

    served = servable(settings.classifier.model)
    if settings.gateway.perspective_mapping:
        Translation.load(settings.gateway.perspective_mapping).check(settings.gateway.perspective_mapping, served[1])
    for name in (settings.rewriter.model, *settings.rewriter.adapters.values()):
        if name:
            servable(name)
    if settings.host not in LOCAL and not settings.gateway.keys:
        raise ValueError(
            f"host {settings.host} lets others in, and without gateway.keys everybody may do everything: make keys "
            "with `python -m serve.keys new`, or listen on 127.0.0.1"
        )


def start(settings: LocalArgs) -> None:
    """Start Ray and the application; returns when it answers."""
    # Ray's own ports are open to all interfaces: whoever asks there needs a secret that only this service knows
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for key, value in (environment() | {key: str(free_port(port)) for key, port in OWN_PORTS.items()}).items():
        os.environ.setdefault(key, value)
    import ray
    from ray import serve as ray_serve

    from serve.app import build

    ray.init(address="local", logging_level=logging.ERROR, include_dashboard=False)
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options={"host": settings.host, "port": settings.port, "request_timeout_s": 60},
        logging_config={"enable_access_log": False},
    )
    tree = absolute(settings).model_dump(mode="json", exclude={"host", "port"})
    ray_serve.run(build(tree), name="toxicity", route_prefix="/")


def metrics_url() -> str:
    """Where Ray exports what it and the gateway measure, for Prometheus."""
    import ray

    return f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"


def free_port(wanted: int) -> int:
    """The port, or one that is free in its place."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as HAProxy: what has ended is no hindrance
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")


def end() -> None:
    import ray
    from ray import serve as ray_serve

    ray_serve.shutdown()
    ray.shutdown()


def absolute(settings: LocalArgs) -> LocalArgs:
    """Paths that hold in a replica too, whose working directory is another."""
    paths = {
        "classifier.model": settings.classifier.model,
        "rewriter.model": settings.rewriter.model,
        "gateway.keys": settings.gateway.keys,
        "gateway.feedback": settings.gateway.feedback,
        "gateway.perspective_mapping": settings.gateway.perspective_mapping,
    }
    resolved = {key: str(Path(path).absolute()) for key, path in paths.items() if path and "://" not in path}
    adapters = {
        name: path if "://" in path else str(Path(path).absolute()) for name, path in settings.rewriter.adapters.items()
    }
    return override(settings, resolved | {"rewriter.adapters": adapters})


if __name__ == "__main__":
    main()
