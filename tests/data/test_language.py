"""Language detection and the filter that refuses foreign comments."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from detox.data import language
from detox.data.language_code import code_of

SENTENCES = {
    "en": "Please stop removing my edits from this page, I have explained the reasons twice.",
    "de": "Bitte lösche meine Änderungen nicht mehr, ich habe die Gründe schon zweimal erklärt.",
    "es": "Por favor deja de borrar mis cambios, ya he explicado dos veces las razones.",
    "ru": "Пожалуйста, перестань удалять мои правки, я уже дважды объяснил причины.",
    "uk": "Будь ласка, припини видаляти мої правки, я вже двічі пояснив причини.",
    "hi": "कृपया मेरे संपादन हटाना बंद करें, मैंने कारण दो बार बताए हैं।",
    "zh": "请不要再删除我的编辑，我已经解释过两次原因了。",
    "ar": "من فضلك توقف عن حذف تعديلاتي، لقد شرحت الأسباب مرتين.",
    "am": "እባክህ ማስተካከያዬን ማጥፋት አቁም",
    "ja": "私の編集を削除するのはやめてください。",
}


def test_detects_the_language_of_each_sentence() -> None:
    assert language.detect(list(SENTENCES.values())) == list(SENTENCES)


@pytest.mark.parametrize("text", ["", "  ", "!!! 123", "😀😀", "[EMAIL] [URL]"])
def test_nothing_to_tell_the_language_by(text: str) -> None:
    """A placeholder is no English word."""
    assert language.detect([text]) == [None]
    assert language.foreign([text], ("de",)) == [None]


def test_the_filter_names_the_language_of_what_it_refuses() -> None:
    expected = [None if code in {"en", "am"} else code for code in SENTENCES]
    assert language.foreign(list(SENTENCES.values()), ("en", "am")) == expected
    assert language.foreign([SENTENCES["am"]], ("en",)) == ["am"]


def test_a_script_that_is_not_known_is_foreign() -> None:
    """Cherokee: lingua has no language in this script."""
    assert language.foreign(["ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ"], ("en",)) == ["unknown"]


@pytest.mark.parametrize("text", ["gg", "gg wp", "ez", "lol", "idiot", "noob team"])
def test_short_english_is_not_refused(text: str) -> None:
    """The best guess of lingua for most of them is another language, such as Indonesian for "gg"."""
    assert language.foreign([text], ("en",)) == [None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Please tell me what you think of this", True),  # what, you, think, of, this: 5 of 8
        ("Slobodan Milošević and Vuk Karadžić were the two that I asked, not Čedomir", True),  # lingua sees Bosnian
        ("think think think think", False),  # one word, however often
        ("the and you" + " слово" * 13, False),  # 3 of 16 words
        ("the and you" + " слово" * 12, True),  # 3 of 15
        ("", False),
    ],
)
def test_frequent_words_tell_english(text: str, expected: bool) -> None:
    assert language.reads_as_english(text) is expected


@pytest.mark.data
def test_hardly_a_text_of_another_language_is_taken_for_english(data_folder: Path) -> None:
    """Eight languages of multilingual ParaDetox; two Amharic texts are half English."""
    pairs = pq.read_table(data_folder / "multiparadetox_dev.parquet").to_pylist()
    texts = [row[side] for row in pairs if row["lang"] != "en" for side in ("toxic", "neutral")]
    assert len(texts) == 6400
    assert sum(map(language.reads_as_english, texts)) <= 2


@pytest.mark.parametrize(("text", "code"), [("привет", "ru"), ("你好", "zh")])
def test_a_short_text_in_another_script_is_refused(text: str, code: str) -> None:
    assert language.foreign([text], ("en",)) == [code]


def test_a_wanted_language_beside_the_common_ones_can_be_kept() -> None:
    """Welsh is not among the common languages; named, it becomes a candidate."""
    welsh = "Peidiwch â dileu fy newidiadau, yr wyf wedi egluro'r rhesymau ddwywaith yn barod."
    assert "cy" not in language.COMMON
    assert language.foreign([welsh, SENTENCES["en"]], ("cy",)) == [None, "en"]


def test_mixed_scripts_follow_the_majority_of_letters() -> None:
    """lingua leaves letters of a script that it does not know out of account, and would see one English word."""
    assert language.detect([SENTENCES["am"] + " Highschool"]) == ["am"]
    assert language.foreign([SENTENCES["am"] + " Highschool"], ("en",)) == ["am"]


def test_unknown_code() -> None:
    with pytest.raises(ValueError, match="'english' cannot be detected: use ISO 639-1 codes among af, am"):
        language.foreign(["hello"], ("english",))


def test_only_the_beginning_decides() -> None:
    english = (SENTENCES["en"] + " ") * 4
    assert len(english) >= language.FIRST_CHARS
    assert language.detect([english + SENTENCES["ru"] * 20]) == ["en"]


def test_a_code_is_what_a_language_tag_begins_with() -> None:
    assert [code_of(tag) for tag in (None, "", " EN ", "en-US", "pt_BR", "zh-Hans-CN")] == [
        "",
        "",
        "en",
        "en",
        "pt",
        "zh",
    ]
    for tag in ("English", "e", "en us", "12", "-en"):
        with pytest.raises(ValueError, match="is no code of ISO 639"):
            code_of(tag)
