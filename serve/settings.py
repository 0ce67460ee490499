"""How the gateway serves, strict at every level. No torch in here."""

from __future__ import annotations

from pydantic import Field

from detox.runs.config import Config
from serve.keys import Bands


class GatewaySettings(Config):
    """What stands before the models."""

    keys: str = ""
    """File of API keys (`serve.keys`); empty: everybody may do everything, so listen on this machine only."""
    bands: Bands = Bands()
    texts_under_way: int = Field(default=2048, ge=1)
    """Texts at a time in one replica; what would be more is refused with 429 or 503 and Retry-After."""
    rewrites_under_way: int = Field(default=256, ge=1)
    explanations_under_way: int = Field(default=2, ge=1)
    """One costs as much as scoring a hundred texts."""
    most_body_bytes: int = Field(default=2_000_000, ge=1024)
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the service; empty: none."""
    feedback: str = ""
    """Folder for what `comments:suggestscore` is told; empty: it is refused."""
    page: bool = True
    """Serve the page at `/`."""
    public_url: str = ""
    """Where clients reach the service, for the discovery document; empty: as the request came."""
