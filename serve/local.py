"""`python -m serve.local --classifier.model RUN [--rewriter.model RUN] [--port 8000]`: the service on this machine.

What `make serve` runs: a Ray of its own, on this machine only, HAProxy before the gateway, until Ctrl-C. On a cluster
it is `serve deploy serve/config.yaml`.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from detox.runs.config import override
from serve.haproxy import environment, private_folder
from serve.limits import REQUEST_SECONDS
from serve.settings import Args, ClassifierSettings, GatewaySettings, check_exposure

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
    with running(settings):
        shown = f"http://{settings.host}:{settings.port}"
        print(f"page:    {shown}/\nAPI:     {shown}/openapi.json\nmetrics: {metrics_url()}")
        print(f"model:   {settings.classifier.model}\nCtrl-C ends it.", flush=True)
        while True:
            signal.pause()


def _stop(number: int, frame: object) -> None:
    raise SystemExit(0)


def _say_wait(number: int, frame: object) -> None:
    print("ending; once more ends it at once, and may leave HAProxy behind", flush=True)
    _on_signals(signal.SIG_DFL)


def _on_signals(handler: Callable[[int, object], None] | signal.Handlers) -> None:
    """What SIGINT, SIGTERM and SIGHUP do from now on; what is ignored stays so, as under `nohup`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def check(settings: LocalArgs) -> None:
    """What would fail in a replica minutes later, said now.

    Raises:
        ValueError: an artifact that may not be served, keys or a mapping that do not hold, a folder that cannot be
            written, or an open door.
    """
    from serve.artifacts import servable
    from serve.feedback import FeedbackStore
    from serve.keys import Keys
    from serve.translation import Translation

    check_exposure(settings.host, settings.gateway)
    Keys(settings.gateway.keys)
    _, version = servable(settings.classifier.model)
    if mapping := settings.gateway.perspective_mapping:
        Translation.load(mapping).check(mapping, version)
    for name in (settings.rewriter.model, *settings.rewriter.adapters.values()):
        if name:
            servable(name)
    if settings.gateway.feedback:
        FeedbackStore(settings.gateway.feedback)


@contextmanager
def running(settings: LocalArgs) -> Iterator[None]:
    """Ray and the application, which answers inside the block; SIGINT, SIGTERM and SIGHUP end it in good order."""
    # Ray's own ports are open to all interfaces: whoever asks there needs a secret that only this service knows
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    _on_signals(_stop)
    folder = private_folder()
    try:
        ports = {key: str(free_port(port)) for key, port in OWN_PORTS.items()}
        for key, value in (environment(folder) | ports).items():
            os.environ.setdefault(key, value)
        import ray
        from ray import serve as ray_serve

        from serve.app import build

        try:
            ray.init(address="local", logging_level=logging.ERROR, include_dashboard=False)
            _on_signals(_stop)  # Ray's own handler of SIGTERM aborts
            ray_serve.start(
                proxy_location="HeadOnly",
                http_options={"host": settings.host, "port": settings.port, "request_timeout_s": REQUEST_SECONDS},
                logging_config={"enable_access_log": False},
            )
            tree = absolute(settings).model_dump(mode="json", exclude={"host", "port"})
            ray_serve.run(build(tree), name="toxicity", route_prefix="/")
            yield
        finally:
            _on_signals(_say_wait)
            if ray.is_initialized():
                try:
                    ray_serve.shutdown()  # HAProxy would outlive Ray
                finally:
                    ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
