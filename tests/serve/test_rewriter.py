"""The rewriter's service: requests share batches and get what each gets alone, whichever rewriter they want."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from detox.governance.manifest import write_manifest
from detox.models.tiny import write_checkpoint
from detox.rewriter.face import Rewriter
from detox.rewriter.generation_settings import DecodingSettings
from detox.rewriter.remote_request import RemoteError
from detox.rewriter.remote_settings import RemoteSettings
from detox.rewriter.rerank import Rewrite
from serve import rewriter
from serve.artifacts import ReplacedError
from serve.rewriter import Asked, RewriterReplica, RewriterService, rewritten
from serve.rewriting import RewriterModel
from serve.settings import RewriterSettings
from tests.rewriter.artifacts import CIVIL, RUDE, THANKS, write_rewriter
from tests.rewriter.chat_server import chat_server, completion
from tests.serve.hanging import check_unwell_while


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("rewriters")
    return {name: write_rewriter(place / name) for name in ("main", "formal", "short")}


def settings(runs: dict[str, Path], **changes: object) -> RewriterSettings:
    adapters = {name: str(runs[name]) for name in ("formal", "short")}
    return RewriterSettings(model=str(runs["main"]), adapters=adapters, **changes)  # type: ignore[arg-type]


def test_it_says_what_it_is(runs: dict[str, Path]) -> None:
    model = RewriterService(settings(runs)).model
    assert (model.name, model.languages, tuple(model.adapters)) == ("main", ("en",), ("formal", "short"))
    assert model.served("") == {"name": "main", "version": model.version}
    assert model.served("short") == {"name": "short", "version": model.adapters["short"]}


def test_requests_that_come_together_get_what_each_gets_alone(runs: dict[str, Path]) -> None:
    texts = [RUDE, THANKS, RUDE.replace("archive", "garden")]
    expected = Rewriter.load(str(runs["main"])).rewrite(texts, lang="en")
    replica = RewriterReplica(settings(runs, batch_texts=2).model_dump(mode="json"))

    async def together() -> list[tuple[RewriterModel, list[Rewrite]]]:
        langs = [["en"] * len(texts), ["en"], ["en"]]
        return await asyncio.gather(*map(replica.rewrite, [texts, [RUDE], [THANKS]], langs))

    whole, rude, thanks = (rewrites for _, rewrites in asyncio.run(together()))
    assert whole == expected
    assert (rude, thanks) == (expected[:1], expected[1:2])
    assert expected[0].text == CIVIL
    assert expected[1].how == "already neutral"


def test_the_controls_of_decoding_hold_in_service(tmp_path: Path) -> None:
    """A model with a copy head, untrained, copies; against its source's toxic words it does not."""
    never = DecodingSettings(copy_penalty=30.0, lexicon=30.0)
    write_rewriter(tmp_path / "plain", "copy_t5")
    write_rewriter(tmp_path / "steered", "copy_t5", decoding=never)
    service = RewriterService(
        RewriterSettings(model=str(tmp_path / "plain"), adapters={"steered": str(tmp_path / "steered")})
    )
    (plain,), (steered,) = (one.candidates([RUDE], ["en"]) for one in (service.main, service.adapter("steered")))
    assert "plonker" in plain[0]
    assert "plonker" not in steered[0]


def test_a_model_that_hangs_is_unwell(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    replica, ends = RewriterReplica(settings(runs).model_dump(mode="json")), threading.Event()

    async def hanging() -> None:
        await replica.check_health()
        monkeypatch.setattr(rewriter, "rewritten", lambda requests: ends.wait() and [[] for _ in requests])
        await check_unwell_while(replica.rewrite([RUDE], ["en"]), ends, replica, rewriter, monkeypatch)

    asyncio.run(hanging())


def test_a_long_request_lets_others_in_and_ends_with_its_client(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch holds so many texts, a long one counting for several."""
    batches: list[list[int]] = []

    def recorded(requests: list[Asked]) -> list[list[Rewrite]]:
        batches.append([len(text) for asked in requests for text in asked.texts])
        time.sleep(0.1)
        return [[Rewrite(text, "unchanged", 0, 0, 1) for text in asked.texts] for asked in requests]

    monkeypatch.setattr(rewriter, "rewritten", recorded)
    replica = RewriterReplica(settings(runs, batch_texts=4).model_dump(mode="json"))

    async def both(leaves: bool) -> None:
        long = asyncio.create_task(replica.rewrite(["x" * 7000] * 3, ["en"] * 3))
        await asyncio.sleep(0.05)
        if leaves:
            long.cancel()
        await replica.rewrite(["short"], ["en"])
        await asyncio.wait([long])

    asyncio.run(both(leaves=False))
    assert batches == [[7000], [5], [7000], [7000]]
    batches.clear()
    asyncio.run(both(leaves=True))
    assert batches == [[7000], [5]]


def test_requests_of_several_rewriters_may_share_a_batch(runs: dict[str, Path]) -> None:
    """A running service loads its adapter in `test_application.py`."""
    service = RewriterService(settings(runs))
    formal = service.adapter("formal")
    requests = [Asked(formal, [RUDE], ["en"]), Asked(service.main, [THANKS], ["en"]), Asked(formal, [THANKS], [""])]
    found = rewritten(requests)
    assert [[rewrite.text for rewrite in one] for one in found] == [[CIVIL], [THANKS], [THANKS]]


def test_adapters_on_the_mains_base_share_its_weights(tmp_path: Path) -> None:
    """Five of them in a replica take the memory of one."""
    base = str(write_checkpoint("t5", tmp_path / "base", [RUDE, CIVIL], head="seq2seq_lm"))
    main, formal = (str(write_rewriter(tmp_path / name, base=base)) for name in ("main", "formal"))
    service = RewriterService(RewriterSettings(model=main, adapters={"formal": formal}))
    ours, theirs = (
        {name: weight.data_ptr() for name, weight in one._loaded.model.named_parameters()}  # type: ignore[union-attr]
        for one in (service.main, service.adapter("formal"))
    )
    assert {name for name in theirs if ours[name] == theirs[name]} == {name for name in theirs if "lora_" not in name}


def test_an_adapter_that_was_trained_again_is_not_served_under_its_old_version(tmp_path: Path) -> None:
    formal = write_rewriter(tmp_path / "formal")
    main = write_rewriter(tmp_path / "main")
    service = RewriterService(RewriterSettings(model=str(main), adapters={"formal": str(formal)}))
    write_manifest(formal / "artifact", {"job": "train_rewriter", "again": True})
    with pytest.raises(ReplacedError, match="adapter formal was .* when this replica started and is .* now"):
        service.adapter("formal")


def test_an_adapter_that_may_not_be_served_is_known_at_the_start(runs: dict[str, Path], tmp_path: Path) -> None:
    broken = settings(runs).model_copy(update={"adapters": {"gone": str(tmp_path / "gone")}})
    with pytest.raises(ValueError, match="there is no artifact"):
        RewriterService(broken)
    research = write_rewriter(tmp_path / "research")
    write_manifest(research / "artifact", {"job": "train_rewriter"}, classification="research-only")
    for changes in ({"model": str(research)}, {"adapters": {"research": str(research)}}):
        with pytest.raises(ValueError, match="research-only, and such an artifact is not served"):
            RewriterService(settings(runs).model_copy(update=changes))


def test_an_endpoint_may_stand_in_for_the_model(runs: dict[str, Path]) -> None:
    """Its answers are reranked as ever; where it fails, so does the request, without a word of the text."""
    with chat_server(lambda asked: completion(CIVIL)) as server:
        remote = RemoteSettings(base_url=server.base_url, model="m", prompt="{text}")
        replica = RewriterReplica(settings(runs, remote=remote).model_dump(mode="json"))
        _, (rewrite,) = asyncio.run(replica.rewrite([RUDE], ["en"]))
    assert rewrite.text == CIVIL
    assert rewrite.how == "model"
    assert [asked.content for asked in server.asked] == [RUDE]
    with pytest.raises(RemoteError, match="the endpoint failed") as failed:
        asyncio.run(replica.rewrite([RUDE], ["en"]))
    assert "plonker" not in str(failed.value)
