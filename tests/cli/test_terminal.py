"""Progress as a terminal shows it, drawn by hand-set clocks; nothing where there is no terminal."""

import io
import re
import sys

import pytest
from rich.console import Console

from cutaway.cli import terminal


class Screen(io.StringIO):
    def isatty(self):
        return True


class Work:
    """Items which can say how it goes."""

    def __init__(self, items=10):
        self.items = items
        self.asked = 0

    def __len__(self):
        return self.items

    def __iter__(self):
        return iter(range(self.items))

    def status(self):
        self.asked += 1
        return f"loss 0.{self.asked}"


@pytest.fixture
def clock(monkeypatch):
    """`terminal`'s clock, which each reading moves on by what `clock.tick` says."""

    class Clock:
        now, tick = 0.0, 0.0

        def monotonic(self):
            self.now += self.tick
            return self.now

    clock = Clock()
    monkeypatch.setattr(terminal, "time", clock)
    return clock


def shown(screen):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


def on_terminal(monkeypatch, width):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    # Refreshed by hand, so that what is seen does not depend on a thread.
    monkeypatch.setattr(
        terminal, "Console", lambda **_: Console(file=screen, force_terminal=True, width=width, height=9)
    )
    return screen


def test_a_status_is_shown_in_a_terminal(monkeypatch, clock):
    screen, work = on_terminal(monkeypatch, 100), Work()
    clock.tick = 0.6
    assert list(terminal.bars(work, "epoch 1/1")) == list(range(10))
    assert work.asked > 0
    assert re.search(r"epoch 1/1 .*/10 loss 0\.\d", shown(screen))


def test_the_time_that_is_left_is_shown(monkeypatch, clock):
    """Ten items of 1.8 s, the clock's three readings for each: 14 s are left when two are done."""
    screen = on_terminal(monkeypatch, 100)
    clock.tick = 0.6
    list(terminal.bars(Work(), "epoch 1/1"))
    assert re.search(r"/10 loss 0\.\d+ +\d\d:\d\d", shown(screen))


def test_nobody_is_asked_before_a_bar_is_seen_nor_more_often_than_five_times_a_second(monkeypatch, clock):
    on_terminal(monkeypatch, 100)
    work = Work()
    clock.tick = 0.01
    list(terminal.bars(work, "epoch"))
    assert work.asked == 0
    clock.tick = 0.15
    many = Work(27)
    list(terminal.bars(many, "epoch"))
    # 4 s of work, the first of them without a bar; told at every second reading.
    assert many.asked == 10


def test_without_a_terminal_nothing_is_asked_or_shown(monkeypatch, capsys):
    work = Work()
    assert list(terminal.bars(work, "epoch")) == list(range(10))
    assert work.asked == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_long_status_fits_into_one_line(monkeypatch, clock, width):
    screen = on_terminal(monkeypatch, width)
    clock.tick = 0.6
    work = Work()
    work.status = lambda: "loss 12.345  acc 100.0 %  lr 8.8e-05  12,345 images/s"
    list(terminal.bars(work, "epoch 10/10"))
    lines = [line for line in re.split(r"[\r\n]+", shown(screen)) if "images" in line]
    assert lines
    assert all(len(line) <= width and "images/s" in line and "\N{HORIZONTAL ELLIPSIS}" not in line for line in lines)


ROWS = [["features.0.conv", "Conv2d", -0.001234, "1.5 %"], ["out", "Linear", 12345.0, "-"]]


def lines_of(capsys, monkeypatch, width):
    monkeypatch.setattr(
        terminal, "console", lambda: Console(markup=False, highlight=False, soft_wrap=True, width=width)
    )
    terminal.say_table(["layer", "type", "mean", "zeros"], ROWS)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_table_takes_what_it_needs_and_numbers_stand_right(capsys, monkeypatch):
    assert lines_of(capsys, monkeypatch, 80) == [
        "layer            type         mean  zeros",
        "features.0.conv  Conv2d  -0.001234  1.5 %",
        "out              Linear  1.234e+04      -",
    ]


def test_where_a_terminal_is_narrow_words_are_folded_and_numbers_are_not(capsys, monkeypatch):
    assert lines_of(capsys, monkeypatch, 32) == [
        "layer   type         mean  zeros",
        "featur  Conv2d  -0.001234  1.5 %",
        "es.0.c",
        "onv",
        "out     Linear  1.234e+04      -",
    ]


def test_figures_are_whole_also_where_the_terminal_is_narrower_than_they_are(capsys, monkeypatch):
    assert lines_of(capsys, monkeypatch, 20) == lines_of(capsys, monkeypatch, 80)
