"""Curves of the report: lines where their numbers are, few ticks and few points."""

import pytest

from jaxssl.reporting.curves import HEIGHT, LEFT, RIGHT, Line, draw, nice_ticks, short, thin
from jaxssl.reporting.page import render


def test_a_line_is_drawn_where_its_numbers_are():
    drawn = draw("title", "", [Line("a", "red", [(0.0, 1.0), (5.0, 3.0), (10.0, 2.0)])])
    page = render("curves.html", entries=[], main=[drawn], more=[])
    path = page.partition('points="')[2].partition('"')[0]
    (x0, y0), (x1, y1), (x2, y2) = (map(float, place.split(",")) for place in path.split())
    assert (x0, x1, x2) == (LEFT, (LEFT + RIGHT) / 2, RIGHT)
    assert y1 < y2 < y0 < HEIGHT
    assert y2 == pytest.approx((y0 + y1) / 2)


def test_fractions_have_ticks_in_percent():
    fractions = draw("title", "", [Line("a", "red", [(0.0, 0.1), (1.0, 0.4)])], in_percent=True)
    assert [text for _, text in fractions.y_ticks] == ["10 %", "20 %", "30 %", "40 %"]
    assert [text for _, text in fractions.x_ticks][1] == "0.2"


def test_numbers_of_ticks_are_short_and_exact():
    numbers = {0.0: "0", 0.0025: "0.0025", 12.5: "12.5", 1250.0: "1,250", 12345.0: "12,345"}
    numbers |= {99999.0: "99,999", -20000.0: "-20,000", 2e5: "2e5", 3e-4: "3e-4"}
    assert {number: short(number) for number in numbers} == numbers


def test_ticks_and_thinning():
    assert nice_ticks(0.0, 1.0, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(13.0, 87.0, 4) == [0, 20, 40, 60, 80, 100]
    assert nice_ticks(0.0, 5e-324, 4)[-1] == 1
    assert nice_ticks(2.0, 2.0, 4)[0] < 2 < nice_ticks(2.0, 2.0, 4)[-1]
    points = [(float(i), float(i % 2)) for i in range(1000)]
    thinned = thin(points)
    assert len(thinned) == 250
    assert (thinned[0], thinned[-1], thinned[1]) == (points[0], points[-1], (5.5, 0.5))
