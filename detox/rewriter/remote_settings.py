"""What `detox.rewriter.remote` asks of an OpenAI-compatible endpoint, as data. No torch in here."""

from __future__ import annotations

from pydantic import Field, field_validator

from detox.runs.config import Config

PROMPT = (
    "Rewrite the text below so that nothing in it is toxic: no insult, no slur, no threat, no obscene word. Keep its "
    "meaning, its names, numbers and links, and as many of its words as you can. Stay in the language of the text "
    "(code: {lang}). Answer with the rewritten text alone.\n\n{text}"
)


class RemoteLimits(Config):
    """How hard an endpoint is pressed, and for how long. Changes no rewrite, so a run goes on with other limits."""

    timeout: float = Field(default=60.0, gt=0)
    """Seconds from a request to the end of its answer."""
    retries: int = Field(default=4, ge=0)
    """How often a request is sent again after status 429 or 5xx, a time-out or a broken connection."""
    backoff: float = Field(default=1.0, gt=0)
    """Seconds before the first retry; each further one waits twice as long. Up to half of it is left out by chance."""
    longest_wait: float = Field(default=60.0, gt=0)
    """Most seconds between two tries. An endpoint that asks for more (`Retry-After`) has failed."""
    concurrency: int = Field(default=4, ge=1)
    """Requests at a time."""
    most_requests: int = Field(default=0, ge=0)
    """Budget of one command: requests, retries counted; 0: no limit."""
    most_tokens: int = Field(default=0, ge=0)
    """Budget of one command: tokens of prompts and answers as the endpoint counts them (one that does not: bytes, of
    which there are more); 0: no limit. Requests already under way when it is reached are paid for too."""


class RemoteSettings(Config):
    """An endpoint that speaks OpenAI's chat completions: OpenAI, Gemini, vLLM, Ollama, llama.cpp …"""

    base_url: str = ""
    """What stands before `/chat/completions`, for example `http://localhost:8000/v1`; empty: no remote rewriter."""
    model: str = ""
    """The model's name there."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key, never the key itself; empty: none is sent."""
    prompt: str = PROMPT
    """The user's message; `{text}` in it stands for the text, `{lang}` for its language's code (`und`: unknown)."""
    temperature: float = Field(default=0.0, ge=0)
    candidates: int = Field(default=1, ge=1)
    """Answers asked for with one request (`n`); endpoints that know one only give one."""
    max_answer_tokens: int = Field(default=1024, ge=0)
    """Most tokens of an answer, the model's thinking counted; 0: as many as the endpoint allows."""
    max_source_chars: int = Field(default=1000, ge=20)
    """Longer texts are rewritten sentence by sentence."""
    limits: RemoteLimits = RemoteLimits()

    @field_validator("prompt")
    @classmethod
    def _holds_the_text(cls, prompt: str) -> str:
        if "{text}" not in prompt:
            raise ValueError("the prompt must say where the text goes: put {text} into it")
        return prompt
