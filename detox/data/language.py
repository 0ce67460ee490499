"""The language of comments, by lingua.

Asked about all 75 languages of lingua and whole comments, detection is the greatest cost of cleaning. Measured on one
core over Jigsaw comments, memory beside what importing takes:

    whole comments, 75 languages, the best guess        735 comments/s   1,060 MB   1.9 % of them not English
    first 240 characters, languages of `COMMON`       2,960 comments/s     540 MB   1.0 %

As a filter, English told by its frequent words first (`foreign`), it is 38 times as fast as the first line (measured in
one run by `benchmarks.cleaning`).

Fewer languages are also the more accurate: all 75 take short English for Latin, Yoruba or Tagalog (tweets of Davidson
et al.: 83.8 % found to be English, against 92.3 %), and Hindi for Marathi (multilingual ParaDetox: 88 % against 100 %;
none of its other languages loses).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from lingua import IsoCode639_1, Language, LanguageDetector, LanguageDetectorBuilder

COMMON: tuple[str, ...] = (
    *("en", "ru", "es", "de", "fr", "ja", "pt", "tr", "it", "fa", "nl", "pl", "zh", "vi", "id", "cs", "ko", "uk"),
    *("ar", "el", "he", "hi", "sv", "th", "ro", "bg", "ur", "bn", "ta", "te", "gu", "pa", "ka", "hy"),
)
"""The most used languages of the web, and those that own a script, which cost other scripts nothing. ISO 639-1."""

FIRST_CHARS = 240
LEAST_SHARE = 0.1
"""A comment is foreign if lingua gives the wanted languages together less than this. With the best guess alone 1.4 %
of Jigsaw and 7.3 % of the tweets would be refused; with this share 0.3 % and 1.4 %, and of Spanish, the closest of
the languages tried, 1.5 % are kept."""
LEAST_LETTERS = 12
"""Fewer letters do not tell English from Dutch ("gg wp"): then a comment is foreign only by its script, or by a letter
that the wanted languages lack."""

LEAST_ENGLISH_WORDS = 3
LEAST_ENGLISH_SHARE = 0.2
"""A comment with so many different words of `ENGLISH`, and such a share of its words among them, is English without
asking lingua: 86 % of Jigsaw's are, and 2 of 6,400 texts in the other eight languages of multilingual ParaDetox. Of
those found so, lingua would refuse 1 in 1,300: English that quotes Greek, or names a Mr Milošević."""
ENGLISH: frozenset[str] = frozenset(
    (
        *("the", "and", "that", "you", "it", "with", "this", "are", "not", "have", "but", "your", "which", "from"),
        *("would", "there", "what", "they", "been", "if", "should", "about", "who", "their", "when", "how", "could"),
        *("because", "some", "people", "think", "just", "then", "than", "them", "him", "our", "its", "these", "those"),
        *("where", "why", "did", "does", "is", "of", "i", "was", "be", "or", "all", "an", "my", "he", "she", "we"),
        *("for", "out", "up", "one", "know", "like", "get", "good", "more", "no", "any", "only", "even", "other"),
        *("into", "very", "were", "had", "don", "doesn", "isn", "can", "didn", "re"),
    )
)

_WORD = re.compile(r"\w+")
_PLACEHOLDER = re.compile(r"\[(?:EMAIL|URL|IP|PHONE|CARD|IBAN|HANDLE)\]")
_ETHIOPIC = re.compile(r"[\u1200-\u137f]")


def detect(texts: Sequence[str]) -> list[str | None]:
    """ISO 639-1 code of the likeliest language of each text, among `COMMON` and Amharic (`am`, the likeliest of the
    languages in Ethiopic script, which lingua does not know); None where there is nothing to tell it by.
    """
    detector = _detector(frozenset(COMMON))
    return [_best(detector, beginning(text)) for text in texts]


def foreign(texts: Sequence[str], wanted: tuple[str, ...]) -> list[str | None]:
    """For each text: None if it may be in one of the `wanted` languages (ISO 639-1), else its likeliest language
    (`unknown` where lingua has none). A text without letters is in every language.

    Raises:
        ValueError: a wanted language that cannot be detected.
    """
    check(wanted)
    shown = [beginning(text) for text in texts]
    asked = [not ("en" in wanted and reads_as_english(text)) for text in shown]
    return [by_lingua(text, wanted) if ask else None for text, ask in zip(shown, asked, strict=True)]


def reads_as_english(text: str) -> bool:
    """Whether its frequent words alone make the text English; says nothing of a text that has few of them."""
    words = _WORD.findall(text.lower())
    english = [word for word in words if word in ENGLISH]
    return len(english) >= LEAST_ENGLISH_SHARE * len(words) and len(set(english)) >= LEAST_ENGLISH_WORDS


def check(codes: Sequence[str]) -> None:
    """Raises:
    ValueError: a code that is not the ISO 639-1 code of a language that can be detected.
    """
    known = {"am", *(_code(language) for language in Language.all())}
    for code in codes:
        if code not in known:
            raise ValueError(
                f"language {code!r} cannot be detected: use ISO 639-1 codes among {', '.join(sorted(known))}"
            )


@lru_cache(maxsize=4)
def _detector(codes: frozenset[str]) -> LanguageDetector:
    """Built once a process; it loads the model of a language when a text first needs it."""
    return LanguageDetectorBuilder.from_languages(*(_language(code) for code in sorted(codes))).build()


def _language(code: str) -> Language:
    return Language.from_iso_code_639_1(getattr(IsoCode639_1, code.upper()))


def _code(language: Language) -> str:
    return language.iso_code_639_1.name.lower()


def beginning(text: str) -> str:
    """What lingua sees of a text: its beginning, without placeholders, which are English."""
    return (_PLACEHOLDER.sub(" ", text) if "[" in text else text)[:FIRST_CHARS]


def _mostly_ethiopic(text: str) -> bool:
    return not text.isascii() and 2 * len(_ETHIOPIC.findall(text)) > _letters(text)


def _letters(text: str) -> int:
    return sum(character.isalpha() for character in text)


def _best(detector: LanguageDetector, text: str) -> str | None:
    if _mostly_ethiopic(text):
        return "am"
    language = detector.detect_language_of(text)
    return None if language is None else _code(language)


def by_lingua(text: str, wanted: tuple[str, ...]) -> str | None:
    """What `foreign` says of a text that is not known at sight; only its beginning should be given."""
    if _mostly_ethiopic(text):
        return None if "am" in wanted else "am"
    detector = _detector(frozenset(COMMON) | frozenset(wanted) - {"am"})
    confidences = _confidences(detector, text)
    share, letters = _share(confidences, wanted), _letters(text)
    if letters == 0 or share >= LEAST_SHARE or (share > 0 and letters < LEAST_LETTERS):
        return None
    likeliest, confidence = confidences[0]
    return likeliest if confidence > 0 else "unknown"


def _confidences(detector: LanguageDetector, text: str) -> list[tuple[str, float]]:
    """Code and probability of each candidate, the likeliest first; all 0 where there is nothing to go by."""
    return [(_code(value.language), value.value) for value in detector.compute_language_confidence_values(text)]


def _share(confidences: list[tuple[str, float]], wanted: tuple[str, ...]) -> float:
    return sum(confidence for code, confidence in confidences if code in wanted)
