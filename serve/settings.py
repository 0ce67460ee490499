"""What is served, and how: the arguments of `serve.app:build`, strict at every level. No torch in here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detox.rewriter.remote_settings import RemoteSettings
from detox.runs.config import Config

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Addresses at which only this machine can ask."""


class Bands(Config):
    """From which score on a text goes to people, and from which it is blocked; the highest score of its labels
    counts, each over its threshold (0.5 stands for the threshold itself)."""

    review: float = Field(default=0.5, ge=0, le=1)
    block: float = Field(default=0.8, ge=0, le=1)

    @model_validator(mode="after")
    def _rise(self) -> Bands:
        if self.block < self.review:
            raise ValueError(f"bands must rise, and block ({self.block}) is below review ({self.review})")
        return self


class ClassifierSettings(Config):
    """One replica of the classifier."""

    model: str = ""
    """Run directory of `train_classifier`, or its artifact, as a path or a URI. Its manifest must hold."""
    engine: Literal["torch", "onnx_int8", "openvino"] = "torch"
    """The last two are for the CPU, and must agree with torch in float32 before they serve."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of torch: `auto` is bfloat16 where the hardware has it."""
    batch_tokens: int = Field(default=4096, ge=512)
    """Tokens of a batch, before padding."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the engine; 0: as many as Ray gives the replica CPUs."""

    @model_validator(mode="after")
    def _dtype_is_torchs(self) -> ClassifierSettings:
        if self.engine != "torch" and self.dtype != "auto":
            raise ValueError(f"dtype is of the engine torch, and {self.engine} chooses its own: leave dtype out")
        return self


class RewriterSettings(Config):
    """One replica of the rewriter."""

    model: str = ""
    """Run directory of `train_rewriter`, or its artifact; empty: nothing is rewritten."""
    adapters: dict[str, str] = Field(default_factory=dict)
    """Further rewriters by name; a replica loads one when it is first asked for, and keeps the last four. Of those that
    are LoRA adapters on the base of `model` there is one copy of that base."""
    remote: RemoteSettings = RemoteSettings()
    """An OpenAI-compatible endpoint that offers the candidates in the model's place."""
    batch_texts: int = Field(default=32, ge=1)
    """Texts a batch, a long one counting for several; a request of more is cut."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of torch; 0: as many as Ray gives the replica CPUs."""


class GatewaySettings(Config):
    """What stands before the models."""

    keys: str = ""
    """File of API keys (`serve.keys`); empty: everybody may do everything, so listen on this machine only."""
    bands: Bands = Bands()
    texts_under_way: int = Field(default=2048, ge=1)
    """Texts at a time in one replica, a long one counting for several; what would be more is refused with 429 or 503
    and Retry-After, but for a single request where nothing else is under way."""
    rewrites_under_way: int = Field(default=256, ge=1)
    """Texts to be rewritten at a time in one replica, a long one counting for several; a request of more than these is
    refused with 413."""
    explanations_under_way: int = Field(default=2, ge=1)
    """One costs as much as scoring a hundred texts."""
    most_body_bytes: int = Field(default=2_000_000, ge=1024)
    """Of a request; a larger one is refused with 413 and not read."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the service; empty: none."""
    feedback: str = ""
    """Folder for what `comments:suggestscore` is told; empty: it is refused."""
    perspective_mapping: str = ""
    """File of curves that put our scores on Perspective's scale (`serve.translation`); empty: our own scores."""
    page: bool = True
    """Serve the page at `/`."""
    public_url: str = ""
    """Where clients reach the service, for the discovery document; empty: as the request came."""


def check_exposure(host: str, gateway: GatewaySettings) -> None:
    """Raises:
    ValueError: others can reach a service that asks nobody for a key.
    """
    if host not in LOCAL and not gateway.keys:
        raise ValueError(
            f"host {host} lets others in, and without gateway.keys everybody may do everything: make keys with "
            "`python -m serve.keys new`, or listen on 127.0.0.1"
        )


class Args(Config):
    """Arguments of the application."""

    classifier: ClassifierSettings
    rewriter: RewriterSettings = RewriterSettings()
    gateway: GatewaySettings = GatewaySettings()

    @model_validator(mode="after")
    def _something_is_served(self) -> Args:
        if not self.classifier.model:
            raise ValueError("classifier.model must name a run of train_classifier: `make serve MODEL=RUN_DIR`")
        if self.rewriter.adapters and not self.rewriter.model:
            raise ValueError("rewriter.adapters need rewriter.model, whose place they take on demand")
        return self
