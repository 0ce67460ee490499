"""`detox.Rewriter`: what is loaded, what comes back as it was, long texts in pieces, another backend."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
import torch

import detox
from detox.models import tiny
from detox.rewriter.backend import ModelBackend
from detox.rewriter.face import Rewriter
from detox.rewriter.generation_settings import DecodingSettings, GenerationSettings, RerankSettings
from detox.rewriter.remote import RemoteError
from detox.rewriter.remote_settings import RemoteLimits, RemoteSettings
from detox.rewriter.rerank import How
from tests.rewriter.artifacts import CIVIL, MAX_SOURCE_TOKENS, RUDE, THANKS, TOXIC, write_rewriter
from tests.rewriter.chat_server import Asked, Reply, chat_server, completion


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rewriter(tmp_path_factory.mktemp("rewriter") / "run")


@pytest.fixture(scope="module")
def rewriter(run: Path) -> Rewriter:
    return Rewriter.load(str(run))


# Loading


def test_a_run_and_its_artifact_are_one_rewriter(run: Path, rewriter: Rewriter) -> None:
    assert detox.Rewriter is Rewriter
    again = Rewriter.load(str(run / "artifact"), device="cpu")
    assert again.languages == ("en",)
    assert again.rewrite(TOXIC[:5], "en") == rewriter.rewrite(TOXIC[:5], "en")


def test_an_artifact_on_the_hub(run: Path, tmp_path: Path) -> None:
    """Fetched whole, its manifest verified, and as good as on the disk."""
    from tests.hub import run_python, stub_hub

    code = "import detox, sys; print(detox.Rewriter.load('lab/civil').rewrite(sys.argv[1], 'en')[0].text)"
    with stub_hub(tmp_path / "hf_home", models={"lab/civil": run / "artifact"}) as hub:
        assert run_python(hub, code, RUDE).splitlines()[-1] == CIVIL


def test_a_classifier_guides_decoding_where_the_settings_say_so(rewriter: Rewriter) -> None:
    """By the scorer of the reranker: what a strongly guided model writes is less toxic than what it writes alone."""
    guided = rewriter.with_settings(
        rewriter.settings.model_copy(update={"decoding": DecodingSettings(toxicity=40.0, rescoring=20.0)})
    )
    langs = ["en"] * 8
    plain, steered = ([row[0].text for row in one._backend.written(TOXIC[:8], langs)] for one in (rewriter, guided))
    before, after = (rewriter._toxicity(texts, langs).mean() for texts in (plain, steered))
    assert plain != steered
    assert after < before


def test_names_that_lead_to_no_rewriter(run: Path, tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text('{"_job": "train_rewriter"}')
    tiny.write_checkpoint("bert", tmp_path / "bert", head="sequence_classification")
    for name, said in (
        ("tiny/t5", "there is no rewriter 'tiny/t5': name a run of train_rewriter"),
        (str(tmp_path / "gone"), "there is no rewriter"),
        (str(tmp_path / "unfinished"), "has no artifact/ \\(yet\\)"),
        (str(tmp_path / "bert"), "is no artifact of ours: it has no detox.json"),
    ):
        with pytest.raises(ValueError, match=said):
            Rewriter.load(name)
    shutil.copytree(run, tmp_path / "altered")
    (tmp_path / "altered" / "artifact" / "lexicon.json").write_text("{}")
    with pytest.raises(ValueError, match=r"lexicon.json was changed after the manifest was signed"):
        Rewriter.load(str(tmp_path / "altered"))


def test_the_model_is_put_on_the_device_and_out_of_training(rewriter: Rewriter) -> None:
    loaded = rewriter._loaded
    loaded.model.train()
    moved = Rewriter(loaded, rewriter._model, rewriter.settings, _helpers(rewriter), device="cpu")
    assert not moved._loaded.model.training
    assert moved._loaded.model.device == torch.device("cpu")


def _helpers(rewriter: Rewriter) -> object:
    from detox.rewriter.artifact import Helpers
    from detox.rewriter.fluency import CharacterModel

    return Helpers(rewriter._reranker._lexicon, rewriter._toxicity, CharacterModel.fit(["a"], ["en"]))


# One text, several texts


def test_order_and_count(rewriter: Rewriter) -> None:
    texts = [RUDE, THANKS, "", RUDE, THANKS]
    found = rewriter.rewrite(texts, "en")
    assert [row.how for row in found] == ["edited", *["already neutral"] * 2, "edited", "already neutral"]
    assert [row.text for row in found] == [CIVIL, THANKS, "", CIVIL, THANKS]
    assert 1 > found[0].toxicity_before > 0.5 > found[0].toxicity_after > found[1].toxicity_after > 0
    assert found[1].similarity == 1
    assert rewriter.rewrite(RUDE, "en") == found[:1]
    assert rewriter.rewrite([]) == []


def test_chunks_do_not_show(rewriter: Rewriter, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rewriter.rewrite(TOXIC[:7], "en")
    monkeypatch.setattr("detox.rewriter.face.CHUNK", 3)
    assert rewriter.rewrite(TOXIC[:7], "en") == whole


def test_what_is_drawn_depends_on_the_text_alone(tmp_path: Path) -> None:
    """Not on its place, its neighbours, or how often it stands there."""
    sampling = GenerationSettings(mode="sample", candidates=3, max_new_tokens=8, temperature=6.0)
    rewriter = Rewriter.load(str(write_rewriter(tmp_path / "run", generation=sampling)))
    texts, langs = TOXIC[:6], ["en"] * 6
    found = rewriter.candidates(texts, langs)
    assert found[::-1] == rewriter.candidates(texts[::-1], langs)
    assert found[2:3] * 2 == rewriter.candidates([texts[2]] * 2, langs[:2])
    assert found[0] != rewriter.candidates(texts[:1], ["de"])[0]
    assert max(len(offers) for offers in found) == 4, "the likeliest one, and three that were drawn"
    assert rewriter.rewrite(texts, "en") == [rewriter.rewrite(text, "en")[0] for text in texts]


@pytest.mark.parametrize("text", ["", " ", " \n\t ", "\x00\x07", "\ufeff"])
def test_nothing_is_neutral(rewriter: Rewriter, text: str) -> None:
    ((found, how, *figures),) = rewriter.rewrite(text)
    assert (found, how, figures) == (text.strip("\x00\x07"), "already neutral", [0.0, 0.0, 1.0])


def test_a_neutral_text_comes_back_as_it_was_given(rewriter: Rewriter) -> None:
    """Cleaning would fold its white space, straighten its quotes, and read its entity."""
    text = " Thanks  for the note —\r\n“the new goalkeeper” &amp; the draft.\n"
    assert rewriter.rewrite(text, "en")[0][:2] == (text, "already neutral")
    assert rewriter.rewrite("Thanks\x00 for the\x1b note.", "en")[0][:2] == ("Thanks for the note.", "already neutral")
    assert rewriter.rewrite("Thanks for the note \ud800.", "en")[0].text == "Thanks for the note ?."


def test_white_space_around_a_rewrite_stays(rewriter: Rewriter) -> None:
    assert rewriter.rewrite(f"\n {RUDE}\n", "en")[0].text == f"\n {CIVIL}\n"


def test_every_source_is_rewritten_where_the_settings_say_so(tmp_path: Path) -> None:
    run = write_rewriter(tmp_path / "run", rerank=RerankSettings(neutral_below=0))
    assert Rewriter.load(str(run)).rewrite(THANKS, "en")[0].how != "already neutral"


@pytest.mark.parametrize(("architecture", "lang"), [("t5", "tlh"), ("copy_t5", None)])
def test_languages_and_scripts_that_nobody_learned(tmp_path: Path, architecture: str, lang: str | None) -> None:
    """T5's tokenizer has one token for all of them, the other spells them in bytes."""
    rewriter = Rewriter.load(str(write_rewriter(tmp_path / "run", architecture)))
    texts = ["日本語のテキストです。", "ኢትዮጵያ", "𓀀𓀁", "🙂🙂", "!!!", "xx yy zz"]
    found = rewriter.rewrite(texts, lang)
    assert [bool(row.text) for row in found] == [True] * 6


def test_half_letters_are_never_given_out(tmp_path: Path) -> None:
    """A model that spells in bytes, and knows nothing, writes bytes that are no letter; the source's own stay."""
    wild = GenerationSettings(mode="sample", candidates=8, max_new_tokens=12, temperature=3.0)
    rewriter = Rewriter.load(str(write_rewriter(tmp_path / "run", "copy_t5", ends=True, generation=wild)))
    texts = ["日本語のテキストです。", "ኢትዮጵያ", "Привет, дурак", "a \ufffd b"]
    written = rewriter._backend.written(texts, ["ja", "am", "ru", "en"])
    assert any(one.is_whole and "\ufffd" in one.text for row in written[:3] for one in row)
    offers = rewriter._backend.candidates(texts, ["ja", "am", "ru", "en"])
    assert not any("\ufffd" in text for offer in offers[:3] for text in offer)
    assert all(text.count("\ufffd") <= 1 for text in offers[3])
    assert not any("\ufffd" in row.text for row in rewriter.rewrite(texts[:3]))


def test_a_device_that_is_not_here(run: Path) -> None:
    for device in ("cuda:99", "nowhere", "hpu", "meta"):
        with pytest.raises(ValueError, match=f"device '{device}' is not here .*: leave it out, or give cpu"):
            Rewriter.load(str(run), device=device)


def test_each_text_has_its_language(rewriter: Rewriter) -> None:
    """Where none is said, it is detected; case and white space do not matter."""
    expected = rewriter.rewrite([RUDE] * 3, "en")
    assert rewriter.rewrite([RUDE] * 3, ["en-US", None, " EN"]) == expected
    with pytest.raises(ValueError, match="language 'English' is no code of ISO 639: give one such as en"):
        rewriter.rewrite(RUDE, "English")
    with pytest.raises(ValueError, match="one language for each text, were 1 for 2"):
        rewriter.rewrite(["a", "b"], ["en"])


def test_a_candidate_that_was_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    """Five tokens are no whole text: the edit stands in, while `candidates` shows what the model wrote."""
    few = GenerationSettings(mode="sample", candidates=2, max_new_tokens=5, temperature=6.0)
    short = Rewriter.load(str(write_rewriter(tmp_path / "run", generation=few)))
    (written,) = short.candidates([RUDE], ["en"])
    assert any(written)
    assert short._backend.candidates([RUDE], ["en"]) == [("",)]
    assert short.rewrite(RUDE, "en")[0][:2] == (CIVIL, "edited")


# Long texts


def test_only_the_toxic_sentences_of_a_long_text_change(rewriter: Rewriter) -> None:
    """The model reads 40 tokens; the neutral sentences come back to the letter, with what stands between them."""
    text = f"  {THANKS}  Thanks &amp; bye!\n\n{RUDE}\n{THANKS} {RUDE}\t{THANKS}\n"
    (found,) = rewriter.rewrite(text, "en")
    assert found.text == text.replace(RUDE, CIVIL)
    assert found.how == "edited"
    (alone,) = rewriter.rewrite(RUDE, "en")
    assert found.toxicity_before == alone.toxicity_before
    assert 0.8 < found.similarity < 1


def test_a_long_neutral_text_comes_back_as_it_was_given(rewriter: Rewriter) -> None:
    text = f"{THANKS}  {THANKS}\n" * 40
    (found,) = rewriter.rewrite(text, "en")
    assert found[:2] == (text, "already neutral")
    assert found.similarity == 1


@pytest.mark.parametrize("unit", ["x", "!", "你", "plonker ", "a plonker and an article, "])
def test_ten_thousand_characters_without_a_sentence(rewriter: Rewriter, unit: str) -> None:
    text = (unit * 10_000)[:10_000]
    (found,) = rewriter.rewrite(text, "en")
    assert found.text
    assert found.how in get_args(How)
    if "article" in unit:
        assert found.text.count("article") == text.count("article")
        assert found.text.count("plonker") < 0.2 * text.count("plonker")


def test_what_is_too_long_is_counted_with_the_prompt(rewriter: Rewriter) -> None:
    """`en: ` and EOS take tokens too."""
    backend = rewriter._backend
    assert isinstance(backend, ModelBackend)
    tokens = [len(backend._tokenizer(text)["input_ids"]) for text in TOXIC]
    with_prompt = [len(backend._tokenizer(f"en: {text}")["input_ids"]) for text in TOXIC]
    found = backend.too_long(TOXIC, ["en"] * len(TOXIC))
    assert found == [count > MAX_SOURCE_TOKENS for count in with_prompt]
    assert found != [count > MAX_SOURCE_TOKENS for count in tokens]


# Another backend


def asking(run: Path, base_url: str, **changes: object) -> Rewriter:
    limits = RemoteLimits(retries=0, concurrency=1)
    settings = {"base_url": base_url, "model": "m", "prompt": "{text}", "limits": limits} | changes
    return Rewriter.load(str(run), remote=RemoteSettings(**settings))


def test_a_remote_backend_is_reranked_like_the_model(run: Path) -> None:
    """A good answer is given out, a copy never; neutral and empty texts are not asked about, and the same text once."""

    def reply(asked: Asked) -> Reply:
        return completion("Who moved it to the archive?" if "archive" in asked.content else asked.content)

    with chat_server(reply) as server:
        texts = [THANKS, RUDE, "", "You plonker, read page 12.", RUDE]
        found = asking(run, server.base_url).rewrite(texts, "en")
        contents = [asked.content for asked in server.asked]
    assert sorted(contents) == sorted([RUDE, "You plonker, read page 12."])
    assert [row.how for row in found] == ["already neutral", "model", "already neutral", "edited", "model"]
    assert found[1].text == "Who moved it to the archive?"
    assert "plonker" not in found[3].text


def test_a_remote_failure_is_an_error_that_names_the_text(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fifth text, in the second chunk, behind a neutral one and in its second sentence."""
    monkeypatch.setattr("detox.rewriter.face.CHUNK", 3)
    sentence = "You plonker, read page 12."
    texts = [RUDE, THANKS, RUDE, THANKS, f"{RUDE} {sentence}"]

    def reply(asked: Asked) -> Reply:
        return Reply(500) if asked.content == sentence else completion(CIVIL)

    with chat_server(reply) as server, pytest.raises(RemoteError, match="text 4 was not rewritten") as raised:
        asking(run, server.base_url, max_source_chars=50).rewrite(texts, "en")
    assert (raised.value.position, raised.value.status) == (4, 500)


class Polite:
    """A backend in the caller's own code."""

    def too_long(self, texts: Sequence[str], langs: Sequence[str]) -> list[bool]:
        return [False] * len(texts)

    def candidates(self, texts: Sequence[str], langs: Sequence[str]) -> list[tuple[str, ...]]:
        return [(CIVIL,) for _ in texts]


def test_any_backend_will_do(rewriter: Rewriter) -> None:
    polite = Rewriter(Polite(), rewriter._model, rewriter.settings, _helpers(rewriter))
    assert polite.rewrite(RUDE, "en")[0][:2] == (CIVIL, "model")
    assert polite.candidates(["a"], ["en"]) == [(CIVIL,)]
