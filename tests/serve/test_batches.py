"""Batches as bodies: what is a part's own, and what is no batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from starlette.testclient import TestClient

from serve.gateway import Gateway
from serve.keys import Keys, digest
from serve.settings import GatewaySettings
from tests.serve.judges import WordJudge

ASKED = {"comment": {"text": "You idiot 😀."}, "languages": ["en"], "requestedAttributes": {"INSULT": {}}}
ANALYZE = "POST /v1alpha1/comments:analyze HTTP/1.1"


ODD = ("http://[::1", "/v1alpha1/../v1/classify", "/v1alpha1/../batch", "/batch", "/v1alpha1/\x07", "x" * 70_000)
"""Targets that are none."""


def client(**settings: Any) -> TestClient:
    return TestClient(Gateway(GatewaySettings(**settings), WordJudge({"idiot": ("insult", 0.9)})).app)


def part(line: str = ANALYZE, body: Any = ASKED, name: str = "<id + 1>", *headers: str) -> str:
    inner = "\n".join([line, "Content-Type: application/json", *headers, "", json.dumps(body, ensure_ascii=False)])
    return f"Content-Type: application/http\nContent-ID: {name}\n\n{inner}\n"


def batch(*parts: str, boundary: str = "b") -> tuple[bytes, dict[str, str]]:
    body = "".join(f"--{boundary}\n{one}" for one in parts) + f"--{boundary}--\n"
    return body.encode(), {"content-type": f'multipart/mixed; boundary="{boundary}"'}


def answers(service: TestClient, *parts: str, **headers: str) -> list[tuple[str, int, Any]]:
    """Name, status and body of each part of the answer."""
    body, kind = batch(*parts)
    found = service.post("/batch", content=body, headers=kind | headers)
    assert found.status_code == 200, found.text
    boundary = found.headers["content-type"].partition('boundary="')[2].rstrip('"')
    told = []
    for one in found.text.split(f"--{boundary}")[1:-1]:
        outer, inner, content = one.strip().split("\r\n\r\n", 2)
        name = next(line for line in outer.split("\r\n") if line.startswith("Content-ID: "))
        told.append((name.removeprefix("Content-ID: "), int(inner.split(" ")[1]), json.loads(content)))
    return told


def test_each_part_is_answered_as_it_is_alone() -> None:
    service = client()
    alone = service.post("/v1alpha1/comments:analyze", json=ASKED).json()
    found = answers(
        service,
        part(),
        part(body={"comment": {"text": ""}}, name="<id + 2>"),
        part("POST /v1/classify HTTP/1.1", name="<id + 3>"),
        part("", name="<id + 4>"),
        part("GET https://elsewhere.example/v1alpha1/comments:analyze HTTP/1.1", name="<id + 5>"),
        *(part(f"POST {target} HTTP/1.1", name=f"<id + {number}>") for number, target in enumerate(ODD, 6)),
        part(name="<id +\n 99>"),
    )
    assert found[0] == ("<response-id + 1>", 200, alone)
    assert found[1][2]["error"]["details"][0]["errorType"] == "COMMENT_EMPTY"
    assert found[-1] == ("<response-id + 99>", 200, alone)
    assert {status for _, status, _ in found[5:-1]} == {404}
    assert [(name, status) for name, status, _ in found[1:5]] == [
        ("<response-id + 2>", 400),
        ("<response-id + 3>", 404),
        ("<response-id + 4>", 404),
        ("<response-id + 5>", 404),
    ]


def test_keys_and_rates_are_those_of_each_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in a part's query, or in a header of the whole."""
    entry = {"id": "forum", "sha256": digest("secret"), "scopes": ["classify"], "per_minute": 12}  # two at once
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [entry]}))
    service = client(keys=str(tmp_path / "keys.json"))
    with_key = ANALYZE.replace(":analyze", ":analyze?key=secret")
    assert [status for _, status, _ in answers(service, part(with_key), part())] == [200, 403]
    owner = MagicMock(wraps=Keys(str(tmp_path / "keys.json")).owner)
    monkeypatch.setattr(Keys, "owner", lambda _, secret: owner(secret))
    body, kind = batch(*[part()] * 1000)
    strange = service.post("/batch", content=body, headers=kind)
    assert (strange.status_code, strange.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert owner.call_count == 1  # a thousand refusals take a second, which a stranger has not to give
    wrong = part(ANALYZE.replace(":analyze", ":analyze?key=wrong"))
    found = answers(service, part(), wrong, part(), **{"x-goog-api-key": "secret"})
    assert [status for _, status, _ in found] == [200, 400, 429]


def test_what_is_no_header_is_the_clients_fault_alone() -> None:
    """Letters that no header may have, and parts within parts, spoil no neighbour."""
    nested = f"Content-Type: multipart/mixed; boundary=c\n\n{'--c' * 2000}\n"
    given = (part(ANALYZE, ASKED, "<id + 1>", "Authorization: Bearer schlüssel 😀"), nested, part(name="<id + 3>"))
    body, kind = batch(*given)
    found = client().post("/batch", content=body, headers={**kind, "authorization": "Bearer ü".encode("latin-1")})
    assert found.status_code == 200
    assert found.text.count("HTTP/1.1 200 OK") == 2
    assert found.text.count("HTTP/1.1 404") == 1


@pytest.mark.parametrize("headers", [{"host": "["}, {"host": "a b"}, {"host": ""}, {"origin": "http://["}], ids=str)
def test_odd_headers_of_the_whole_are_no_fault_of_ours(headers: dict[str, str]) -> None:
    body, kind = batch(part())
    found = client().post("/batch", content=body, headers=kind | headers)
    assert found.status_code == 200
    assert "HTTP/1.1 403" in found.text if "origin" in headers else "HTTP/1.1 200" in found.text


def test_it_answers_below_another_prefix_too() -> None:
    app = Gateway(GatewaySettings(), WordJudge({"idiot": ("insult", 0.9)})).app
    body, kind = batch(part())
    assert "HTTP/1.1 200" in TestClient(app, root_path="/x").post("/batch", content=body, headers=kind).text


def test_a_part_with_endless_headers_is_no_request() -> None:
    found = answers(client(), part(ANALYZE, ASKED, "<id + 1>", *["x-more: 1"] * 5000), part(name="<id + 2>"))
    assert [(name, status) for name, status, _ in found] == [("<response-id + 1>", 404), ("<response-id + 2>", 200)]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/mixed; boundary=b"),
        (b"--b--\n", "multipart/mixed; boundary=b"),
        (b"{}", "application/json"),
        (b"{}", "multipart/mixed"),
        (b"\xff\xfe", "multipart/mixed; boundary=\xff"),
        (batch(*[part()] * 1001)[0], "multipart/mixed; boundary=b"),
    ],
)
def test_what_is_no_batch(body: bytes, kind: str) -> None:
    found = client().post("/batch", content=body, headers={"content-type": kind.encode("latin-1")})
    assert found.status_code == 400
    assert found.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert "batch" in found.json()["error"]["message"].casefold()


def test_a_batch_that_is_too_large_is_not_read() -> None:
    body, kind = batch(part())
    found = client(most_body_bytes=1024).post("/batch", content=body * 10, headers=kind)
    assert (found.status_code, found.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
