"""Personal data in comments, replaced by typed placeholders: S1 step 5's "PII removal regex patterns".

One regular expression finds the candidates, in one pass; what a pattern cannot know, the check digits of cards and
IBANs, is checked on the candidates alone (python-stdnum). Every quantifier is bounded or runs over a class that no
neighbour shares, so the time is linear in the length of the text.

Precision comes first, since a placeholder in the wrong place costs a classifier a word: years, scores, prices,
times, dates, version numbers and ISBNs stay. What a pattern cannot tell from these stays as well: names and
addresses, seven-digit local numbers, bare host names without a path, spelt-out addresses ("name at example dot com").
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter

from stdnum import iban, luhn

TYPES: tuple[str, ...] = ("email", "url", "ip", "phone", "card", "iban", "handle")

_TRIGGER = re.compile(r"[@\d/]|www\.|:[0-9a-f]{0,4}:", re.IGNORECASE)
"""What every candidate has in it; six Jigsaw comments in ten have none and cost this one search."""

# A placeholder must not make room for another match beside it, or replacing twice would differ from replacing once.
_PLACED_BEFORE = r"(?-i:[A-Z])\]"
_START = rf"(?<!\w)(?<!{_PLACED_BEFORE})"
_PLACED = r"\[(?:EMAIL|URL|IP|PHONE|CARD|IBAN|HANDLE)\]"
_END = rf"(?!\w|{_PLACED})"
_DIGIT = rf"(?:\d|{_PLACED})"
_TLD = "com|org|net|edu|gov|info|io|co|gg|be|ly|me|tv|uk|de|fr|es|it|ru|ua|nl|pl|eu|us|ca|au|in|jp|cn|br|ch|at|se"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_CARD = r"\d{4}(?P<s1>[ -])\d{4}(?P=s1)\d{4}(?P=s1)\d{4}(?:(?P=s1)\d{3})?|\d{4}(?P<s2>[ -])\d{6}(?P=s2)\d{5}|\d{13,19}"

_PATTERN = re.compile(
    rf"""
      (?P<scheme>(?:https?|ftp):// [^\s<>"\[\]]* [^\s<>"\[\].,;:!?)}}'*|])
    | {_START} (?:
        (?=[\d+(]) (?:
            (?P<ipv4>(?<!\.) {_OCTET} (?:\.{_OCTET}){{3}} (?!\.{_DIGIT}))
          | (?P<card>(?<![.+-]) (?=2[2-7]|3[04-9]|[456]) (?:{_CARD}) (?!-{_DIGIT}))
          | (?P<phone>(?<![.,:/$+-]) (?:
                \+[1-9] (?:[ .()-]{{0,2}}\d){{7,14}}
              | 00[1-9] (?=\d{{0,3}}[ -]) (?:[ ()-]{{0,2}}\d){{7,13}}
              | (?:1[ .-])? [2-9]\d{{2}} (?P<s3>[ .-]) \d{{3}} (?P=s3) \d{{4}}
              | (?:[18][ -]?)? \(\d{{3,5}}\) [ -]? \d{{2,4}} (?:[ -]\d{{2,4}}){{1,3}}
              | 0[1-9]\d{{0,4}} (?P<s4>[ -]) \d{{2,8}} (?:(?P=s4)\d{{2,8}}){{0,3}}
              | 0[1-9]\d{{1,4}} / \d{{5,9}}
              | 0[1-9]\d{{8,9}}
              | [2-9]\d{{9}}
            ) (?![.,:/-]{_DIGIT}))
        ) {_END}
      | (?P<handle>(?<![.@/+-]) @[^\W\d]\w{{1,30}} (?!@) {_END})
      | (?P<iban>(?:
            (?-i:[A-Z]{{2}}\d{{2}} (?:[ ]?[A-Z0-9]{{4}}){{2,7}} (?:[ ]?[A-Z0-9]{{1,3}})?)
          | [a-z]{{2}}\d{{2}} [ ]?[a-z0-9]{{4}} (?:[ ]?\d{{4}}){{2,6}} (?:[ ]?\d{{1,3}})? (?![@.](?:\w|{_PLACED}))
        ) {_END})
      | (?P<ipv6>(?<![:.]) [0-9a-f]{{3,4}} (?::[0-9a-f]{{0,4}}){{2,7}} (?!:) {_END})
      | (?P<email>(?<![.+-]) [\w.+-]{{1,64}} @ (?:[^\W_](?:[\w-]{{0,62}}) \.){{1,6}} [^\W\d_]{{2,24}} {_END})
      | (?P<host>(?<![./@-]) (?:www\. | (?:[a-z0-9][a-z0-9-]{{0,62}}\.){{1,4}} (?:{_TLD}) /)
            [^\s<>"\[\]]* (?<![.,;:!?)}}'*|]))
      )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_TYPE_OF_GROUP: dict[str, str] = {"scheme": "url", "host": "url", "ipv4": "ip", "ipv6": "ip"}
"""Groups of the pattern that are not named after their type."""
_VERSION_BEFORE = re.compile(r"(?:versions?|ver|\bv|releases?|build|firmware|section|chapter)\W{1,3}$", re.IGNORECASE)
_CALL_BEFORE = re.compile(
    r"\b(?:call|phone|tel|telephone|mobile|cell|whatsapp|dial|fax|sms|text|ring|number)[ :.]{1,3}(?:[a-z]{2,6} ){0,2}$",
    re.IGNORECASE,
)
_ISBN_BEFORE = re.compile(r"isbn(?:-1[03])?\W{0,3}$", re.IGNORECASE)
_CONTEXT = 32


def replace(text: str) -> tuple[str, Counter[str]]:
    """Text with `[EMAIL]`, `[URL]`, `[IP]`, `[PHONE]`, `[CARD]`, `[IBAN]`, `[HANDLE]` for what they name, and how
    many of each of `TYPES` were replaced. Replacing twice is replacing once.
    """
    counts: Counter[str] = Counter()
    if not _TRIGGER.search(text):
        return text, counts
    pieces: list[str] = []
    end = 0
    for match in _PATTERN.finditer(text):
        group, start = str(match.lastgroup), match.start()
        length = _length(group, match.group(), text[max(end, start - _CONTEXT) : start])
        if length:
            kind = _TYPE_OF_GROUP.get(group, group)
            counts[kind] += 1
            pieces += [text[end:start], f"[{kind.upper()}]"]
            end = start + length
    return "".join([*pieces, text[end:]]), counts


def _length(group: str, found: str, before: str) -> int:
    """How many characters of a candidate are what its group says: all, or 0. `before` goes back to the last
    placeholder at most, since the words that this stands for are gone when a text is cleaned again."""
    if group == "iban":
        return _iban_length(found)
    holds = True
    if group == "ipv4":
        holds = not _VERSION_BEFORE.search(before)
    elif group == "ipv6":
        holds = any(character.isdigit() for character in found) and _is_ipv6(found)
    elif group == "card":
        holds = not _ISBN_BEFORE.search(before) and luhn.is_valid(re.sub(r"[ -]", "", found))
    elif group == "phone":
        holds = _is_phone(found, before)
    return len(found) if holds else 0


def _is_ipv6(found: str) -> bool:
    try:
        ipaddress.IPv6Address(found)
    except ValueError:
        return False
    return True


def _is_phone(found: str, before: str) -> bool:
    """9 to 15 digits (ITU-T E.164); a bare run of ten digits only after a word such as "call"."""
    digits = sum(character.isdigit() for character in found)
    if not 9 <= digits <= 15 or _ISBN_BEFORE.search(before):
        return False
    bare = found.isdecimal() and found[0] != "0"
    return not bare or bool(_CALL_BEFORE.search(before))


def _iban_length(found: str) -> int:
    """Length of the valid IBAN that `found` starts with, where words in capitals may follow it; 0 if there is none."""
    while len(found) >= 15:
        if iban.is_valid(found):
            return len(found)
        found = found.rpartition(" ")[0]
    return 0
