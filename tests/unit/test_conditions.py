from __future__ import annotations

import pytest

from realtime_stream.market.bars.conditions import REGULAR, Eligibility, eligibility

# The whole table of Alpaca's market data FAQ, one row a line: code, tapes, minute, daily.
TABLE = """
_ AB yyy yyy
@ CO yyy yyy
A C yyy yyy
D C yyy yyy
Y C yyy yyy
B AB nny nny
B C yyy yyy
C ABCO nny nny
N ABCO nny nny
R ABCO nny nny
E AB yyy yyy
F ABC yyy yyy
K ABC yyy yyy
L ABC yyy yyy
O ABC yyy yyy
X ABC yyy yyy
5 ABC yyy yyy
6 ABC yyy yyy
G C nny 1yy
H ABC nny nny
V ABC nny nny
7 ABC nny nny
I ABCO nny nny
M ABC nnn nnn
Q ABC nnn nnn
P ABCO nny 1yy
T ABCO yyy nny
U ABCO nny nny
W CO nny nny
Z ABC nny 1yy
4 ABC nny 1yy
9 ABC nnn yyn
"""
ROWS = [
    (line.split()[0].replace("_", " "), tape, *line.split()[2:])
    for line in TABLE.split("\n")
    if line
    for tape in line.split()[1]
]


def short(rule: Eligibility) -> str:
    first = {"yes": "y", "no": "n", "first": "1"}[rule.open_close]
    return first + "ny"[rule.high_low] + "ny"[rule.volume]


@pytest.mark.parametrize(("code", "tape", "minute", "daily"), ROWS)
def test_the_table(code: str, tape: str, minute: str, daily: str) -> None:
    assert short(eligibility(tape, (code,))) == minute
    assert short(eligibility(tape, (code,), daily=True)) == daily


@pytest.mark.parametrize(
    ("codes", "minute", "daily"),
    [
        (("@", "I"), "nny", "nny"),
        (("I", "@"), "nny", "nny"),
        (("@", "F"), "yyy", "yyy"),
        (("@", "T"), "yyy", "nny"),
        (("@", "4"), "nny", "1yy"),
        (("4", "I"), "nny", "nny"),
        (("9", "4"), "nnn", "1yn"),
        (("9", "I"), "nnn", "nnn"),
        (("M", "@"), "nnn", "nnn"),
        (("?", "I"), "nny", "nny"),  # what the table does not have decides nothing
    ],
)
def test_the_strictest_of_several_decides(codes: tuple[str, ...], minute: str, daily: str) -> None:
    assert short(eligibility("C", codes)) == minute
    assert short(eligibility("C", codes, daily=True)) == daily


@pytest.mark.parametrize(
    ("tape", "codes"),
    [
        (None, ()),  # crypto
        ("C", ()),
        ("C", ("?",)),
        ("A", ("W",)),  # a code of other tapes
        ("N", ("I",)),
        (None, ("I",)),  # options
        ("", ("I",)),
    ],
)
def test_what_the_table_does_not_have_is_regular(tape: str | None, codes: tuple[str, ...]) -> None:
    assert eligibility(tape, codes) == eligibility(tape, codes, daily=True) == REGULAR
