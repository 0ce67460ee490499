"""Personal data: what is replaced, what only looks like it, and how long hostile texts take."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data import pii

REPLACED = {
    "mail me at a.b+c@exam-ple.co.uk.": "mail me at [EMAIL].",
    "Jürgen.Müller@müller.de wrote": "[EMAIL] wrote",
    "see http://foo.com/a_(b)?x=1, ok": "see [URL], ok",
    "(https://foo.com/)": "([URL])",
    "[http://foo.com the page]": "[[URL] the page]",
    "missing spacehttp://foo.com here": "missing space[URL] here",
    "www.foo.com!": "[URL]!",
    "join discord.gg/abc now": "join [URL] now",
    "http://user:pass@host.org/": "[URL]",
    "93.161.107.169 wrote": "[IP] wrote",
    "at 10.0.0.1:8080": "at [IP]:8080",
    "2001:db8::ff00:42:8329 and FE80::1": "[IP] and [IP]",
    "2602:FFEA:1:131:0:0:0:D348": "[IP]",
    "+44 20 7946 0958": "[PHONE]",
    "+49 (0)151 2345678": "[PHONE]",
    "+33612345678, thanks": "[PHONE], thanks",
    "0044 20 7946 0958": "[PHONE]",
    "(555) 123-4567 or 555.123.4567": "[PHONE] or [PHONE]",
    "1-800-277-4653": "[PHONE]",
    "8 (912) 345-67-89": "[PHONE]",
    "06 12 34 56 78": "[PHONE]",
    "0151/23456789": "[PHONE]",
    "0612345678": "[PHONE]",
    "call me at 5551234567": "call me at [PHONE]",
    "4111 1111 1111 1111": "[CARD]",
    "card 4111111111111111.": "card [CARD].",
    "3782 822463 10005": "[CARD]",
    "DE89 3704 0044 0532 0130 00 IS MINE": "[IBAN] IS MINE",
    "GB82WEST12345698765432": "[IBAN]",
    "de89 3704 0044 0532 0130 00 is mine, at61 1904 3002 3457 3201.": "[IBAN] is mine, [IBAN].",
    "gb82west12345698765432 and It60 X054 2811 1010 0000 0123 456": "[IBAN] and [IBAN]",
    "mr12345678901234@foo.org, ab12 3456 7890 1234 5678@foo.org": "[EMAIL], ab12 3456 7890 1234 [EMAIL]",
    "ab12345678901234.foo.com/x": "[URL]",
    "@some_user hi, @другой": "[HANDLE] hi, [HANDLE]",
}
"""Card and IBAN numbers are the published examples of the issuers and of ISO 13616."""

KEPT = (
    "in 1999, from 2004-2005 or 1990–2000",
    "we won 10-2, then 3:1",
    "at 10:20:30 on 01-02-2004 10:30 and 2010-10-10T10:10:10",
    "on October 01 2008, 10.10.2010",
    "versions 1.2.3.4 and v 1.2.3.4, (v. 1.2.3.4), V: 1.2.3.4, releases 1.2.3.4",
    "version 1.2.3.4, v1.2.3.4, Chrome 96.0.4664.110, section 1.2.3.4.5",
    "300.1.1.1",
    "pi is 3.14159265, $1,000,000.00, 100 000 000",
    "ISBN 0306406152, ISBN 978-0-306-40615-7, isbn=0801882052, 9780306406157",
    "id 5551234567, at 1600000000, 12345678901234567890, timestamp 20131220174859",
    "4111 1111 1111 1112 fails the Luhn check",
    "DE89 3704 0044 0532 0130 01 fails the IBAN check, and so does de89370400440532013001",
    "meet @ 5pm, @5, a@b, foo@bar",
    "std::vector, a::b, add::be, 12::30",
    "::1 is everyone's own machine, and ::2 weeks ago an indented answer on a talk page",
    "and/or, e.g. this/that, 1/2, foo.com",
    "http:// alone",
    "#2008 !!! :) <3 8-)",
)


@pytest.mark.parametrize(("text", "expected"), REPLACED.items())
def test_replaces(text: str, expected: str) -> None:
    assert pii.replace(text)[0] == expected


@pytest.mark.parametrize("text", KEPT)
def test_keeps(text: str) -> None:
    assert pii.replace(text) == (text, Counter())


def test_counts_by_type() -> None:
    text = "a@b.org, c@d.org: http://x.y/ from 1.2.3.4 and 2001:db8::1, @me, +44 20 7946 0958, 4111111111111111"
    text += ", GB82WEST12345698765432"
    expected = {"email": 2, "url": 1, "ip": 2, "handle": 1, "phone": 1, "card": 1, "iban": 1}
    assert pii.replace(text)[1] == expected
    assert set(expected) == set(pii.TYPES)


PIECES = (
    *("a@b.org", "@user", "http://x.y/z", "www.", "1.2.3.4", "2001:db8::1", "+44 20 7946 0958", "4111111111111111"),
    *("de89370400440532013000", "v"),
    *("DE89 3704 0044 0532 0130 00", "call me ", "5551234567", "version ", "ISBN ", "555-123-4567", "co.uk/", "x"),
    *("@", ".", ":", "-", "/", " ", "(", ")", "+", "1", "00", "fe80:", "[EMAIL]", "[", "]", ",", "_", "é"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_replacing_twice_is_replacing_once(text: str) -> None:
    once, _ = pii.replace(text)
    assert pii.replace(once) == (once, Counter())


@given(st.text(alphabet="abc .,!?'\"-éя", max_size=80))
def test_a_text_without_any_mark_of_personal_data_is_untouched(text: str) -> None:
    assert pii.replace(text) == (text, Counter())


@pytest.mark.parametrize(
    "piece",
    [
        *("a", "1", "1 ", "1-", "@", "a@", "a.", "a@a.", "http://", "http://,", "www.", ":", "abc:", "1.", "+1", "0"),
        *("(123)", "a/", "com/", "a.com/", "1.1.1.1.", "[URL]", "01 ", "AB12 AAAA ", "4111 1111 1111 1112 ", "call "),
        *("ab12 ", "ab12 1234 "),
    ],
)
def test_time_grows_linearly(piece: str) -> None:
    """100,000 characters take a fraction of a second; a quadratic pattern takes minutes. The limit, in processor
    time, is a hundred times what was measured, so that a slow machine passes too.
    """
    started = time.process_time()
    pii.replace(piece * (100_000 // len(piece)))
    assert time.process_time() - started < 15
