"""Draw the timeline as SVG without scripts: a bar for each step, a panel for each run of the incident."""

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from tasks.custody.incident.timeline import Bar, Course, Moment, Run, in_order, section_of
from tasks.custody.visible import visible
from tasks.rendering.clock import JST
from tasks.rendering.style import PICTURE_STYLE

WIDTH: Final = 1000
_LEFT: Final = 330
_RIGHT: Final = 24
_ROW: Final = 17
_HEAD: Final = 78
_FOOT: Final = 16
_GAP: Final = 5
_THIN: Final = 2.5
_BAND: Final = 40
_ROWS: Final = 80
_RUNS: Final = 8
_TICKS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
_MOST_TICKS: Final = 8
_LABEL: Final = 52
_DIAMONDS: Final = 45
_WIDE: Final = 0x2E80
_SIGNS: Final = {Course.FAILED: "✖", Course.INCOMPLETE: "▲", Course.CUT_OFF: "…", Course.UNDER_WAY: "…"}
_COURSES: Final = {
    Course.DONE: "完了 done",
    Course.INCOMPLETE: "▲ 不完全 incomplete",
    Course.FAILED: "✖ 失敗 failed",
    Course.CUT_OFF: "… 中断・実行中 cut off, under way",
}
_MOMENTS: Final = {Moment.FROZEN: "凍結完了 frozen", Moment.NONE_LEFT: "残存なし none left"}
_SECTIONS: Final = {
    "§0": "起票 open",
    "§1": "ロック cordon",
    "§2": "凍結 freeze",
    "§3": "停止 stop",
    "§4": "採取・封印 collect, seal",
    "§5": "退避 offload",
    "§6": "検証 verify",
    "§7": "復旧 recover",
    "§8": "記録 record",
}


def picture(runs: Iterable[Run], incident: str) -> str:
    """Return the picture as an SVG document. It shows the last 8 runs and counts the others."""
    every = tuple(runs)
    shown = every[-_RUNS:]
    panels, top = [], _BAND
    for run in shown:
        panel, height = _panel(run)
        panel.set("transform", f"translate(0 {top})")
        panels.append(panel)
        top += height
    root = _root(top, incident, len(every), len(every) - len(shown))
    root.extend(panels)
    return tostring(root, encoding="unicode")


def _root(height: int, incident: str, runs: int, left_out: int) -> Element:
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {height}"})
    root.attrib |= {"width": str(WIDTH), "height": str(height), "role": "img", "class": "timeline"}
    root.set("aria-labelledby", "timeline-title timeline-desc")
    SubElement(root, "title", id="timeline-title").text = f"時系列 / Timeline {visible(incident)}"
    description = f"{runs} run(s); each step is a bar over time in JST. The table has the same data."
    SubElement(root, "desc", id="timeline-desc").text = f"各手順の開始と終了を時間軸上の棒で示す。{description}"
    SubElement(root, "style").text = PICTURE_STYLE
    _rect(root, 0, 0, WIDTH, height, "ground")
    x = 12.0
    for course, words in _COURSES.items():
        _rect(root, x, 14, 22, 11, f"bar {_class_of(course)}")
        label(root, x + 28, 24, words, "small")
        x += 50 + _width(words)
    _diamond(root, x + 6, 19.5)
    label(root, x + 18, 24, "再利用 cached", "small")
    if left_out:
        label(root, WIDTH - _RIGHT, 24, f"さらに古い実行 {left_out} / {left_out} earlier runs", "small end")
    return root


def _panel(run: Run) -> tuple[Element, int]:
    rows, cached = list(in_order(run.bars).items()), sorted(Counter(map(section_of, run.cached)).items())
    shown, left_out = rows[:_ROWS], max(0, len(rows) - _ROWS)
    bottom = _HEAD + _ROW * (len(shown) + len(cached) + bool(left_out))
    panel = Element("g")
    scale = _Scale(run.began, run.ended)
    sections = [bars[0].section for _, bars in shown]
    names = list(dict.fromkeys(sections))
    for place, section in enumerate(sections):
        if names.index(section) % 2:
            _rect(panel, 0, _HEAD + _ROW * place, WIDTH, _ROW, "band")
    label(panel, 12, 20, f"実行 {run.number} / run {run.number}", "strong")
    from_to = f"{run.began.astimezone(JST):%Y-%m-%d %H:%M:%S} JST から / from; {scale.seconds:.1f} s"
    label(panel, 150, 20, from_to, "small")
    _ticks(panel, scale, bottom)
    _moments(panel, scale, run, bottom)
    top = _HEAD
    for step, bars in shown:
        _steps(panel, scale, top, step, bars)
        top += _ROW
    for section, number in cached:
        label(panel, 12, top + 12, f"{section} {_SECTIONS.get(section, '')}: {number} 再利用 cached", "small dim")
        for place in range(min(number, _DIAMONDS)):
            _diamond(panel, _LEFT + 8 + 14 * place, top + 8)
        top += _ROW
    if left_out:
        label(panel, 12, top + 12, f"さらに {left_out} 手順 / {left_out} more steps: custody.jsonl", "small dim")
    return panel, bottom + _FOOT


class _Scale:
    def __init__(self, began: datetime, ended: datetime) -> None:
        self.began, self.seconds = began, max((ended - began).total_seconds(), 0.001)

    def place(self, at: datetime) -> float:
        return self.at((at - self.began).total_seconds())

    def at(self, seconds: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * min(max(seconds / self.seconds, 0.0), 1.0), 1)


def tick_seconds(seconds: float) -> float:
    """Return the distance of marks on the time axis that gives at most 8 of them."""
    least = seconds / _MOST_TICKS
    if least <= _TICKS[0] / 2:
        return float(10 ** math.ceil(math.log10(least)))
    return float(next((tick for tick in _TICKS if tick >= least), _TICKS[-1] * math.ceil(least / _TICKS[-1])))


def _ticks(panel: Element, scale: _Scale, bottom: int) -> None:
    step = tick_seconds(scale.seconds)
    for number in range(math.floor(scale.seconds / step) + 1):
        x = scale.at(number * step)
        line(panel, x, _HEAD - 6, bottom, "tick")
        label(panel, x, _HEAD - 10, f"+{number * step:g} s", "small dim middle")


def _steps(panel: Element, scale: _Scale, top: int, step: str, bars: list[Bar]) -> None:
    label(panel, 12, top + 12, visible(step, _LABEL), "small")
    for bar in bars:
        start, end = scale.place(bar.began), scale.place(bar.ended)
        rect = _rect(panel, start, top + 3, max(_THIN, end - start), _ROW - 6, f"bar {_class_of(bar.course)}")
        attempt = f", {bar.attempt}回目 / attempt {bar.attempt}" if bar.attempt > 1 else ""
        summary = f"{bar.step}: {bar.course}, {bar.duration.total_seconds():.3f} s{attempt}"
        SubElement(rect, "title").text = visible(summary)
    last = bars[-1]
    sign = _SIGNS.get(last.course, "") + (f" ×{len(bars)}" if len(bars) > 1 else "")
    took = "" if last.course in {Course.CUT_OFF, Course.UNDER_WAY} else f"{last.duration.total_seconds():.2f} s"
    _beside(panel, scale.place(last.began), scale.place(last.ended), top, f"{took} {sign}".strip())


def _beside(panel: Element, start: float, end: float, top: int, words: str) -> None:
    """Write the duration right of the bar, else inside, else left of it."""
    width = _width(words) + _GAP
    if end + width < WIDTH - _RIGHT:
        label(panel, end + _GAP, top + 12, words, "small dim")
    elif end - start > width:
        label(panel, end - _GAP, top + 12, words, "small end inside")
    else:
        label(panel, min(start, end - _THIN) - _GAP, top + 12, words, "small dim end")


def _moments(panel: Element, scale: _Scale, run: Run, bottom: int) -> None:
    """Draw the moments that matter; the label of a close second one is a line lower."""
    edge = 0.0
    for name, at in sorted(run.moments.items(), key=lambda each: each[1]):
        words = f"{_MOMENTS[name]} {at.astimezone(JST):%H:%M:%S}.{at.microsecond // 1000:03d}"
        x = scale.place(at)
        start = min(x + _GAP, WIDTH - _RIGHT - _width(words))
        base = 40 if start > edge else 54
        line(panel, x, base - 10, bottom, f"moment {_class_of(name)}")
        label(panel, start, base, words, f"small strong {_class_of(name)}")
        edge = start + _width(words) + _GAP


def _class_of(kind: Course | Moment) -> str:
    return kind.replace(" ", "-")


def _width(words: str) -> float:
    """Return the approximate width of a small label: Japanese characters are twice as wide."""
    return sum(11.5 if ord(letter) >= _WIDE else 6.2 for letter in words)


def _rect(parent: Element, x: float, top: float, width: float, height: float, name: str) -> Element:  # noqa: PLR0913, PLR0917
    place = {"x": f"{x:g}", "y": f"{top:g}", "width": f"{width:g}", "height": f"{height:g}"}
    return SubElement(parent, "rect", {**place, "class": name})


def line(parent: Element, x: float, top: float, bottom: float, name: str) -> None:
    """Draw an upright line of a class."""
    SubElement(parent, "line", {"x1": f"{x:g}", "x2": f"{x:g}", "y1": f"{top:g}", "y2": f"{bottom:g}", "class": name})


def label(parent: Element, x: float, base: float, words: str, name: str) -> None:
    """Write words of a class on a base line."""
    SubElement(parent, "text", {"x": f"{x:g}", "y": f"{base:g}", "class": name}).text = visible(words)


def _diamond(parent: Element, x: float, middle: float) -> None:
    points = [(x, middle - 5), (x + 5, middle), (x, middle + 5), (x - 5, middle)]
    SubElement(parent, "polygon", {"points": " ".join(f"{x:g},{y:g}" for x, y in points), "class": "cached"})
