"""Draw how many of a number of things have happened over time, as steps, in SVG without scripts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from tasks.rendering.document import Both
from tasks.rendering.picture import label, line, tick_seconds
from tasks.rendering.style import PICTURE_STYLE

_WIDTH: Final = 800
_HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 30, 40


def curve(title: Both, began: datetime, moments: Sequence[datetime], count: int) -> str:
    """Return an SVG of how many of `count` had come by each moment since `began`."""
    seconds = sorted(max(0.0, (at - began).total_seconds()) for at in moments)
    span = max([*seconds, 1.0]) * 1.05
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_WIDTH} {_HEIGHT}"})
    root.attrib |= {"width": str(_WIDTH), "height": str(_HEIGHT), "role": "img", "class": "timeline"}
    SubElement(root, "title").text = f"{title.ja} / {title.en}"
    SubElement(root, "style").text = PICTURE_STYLE
    SubElement(root, "rect", {"width": str(_WIDTH), "height": str(_HEIGHT), "class": "ground"})
    label(root, _LEFT, 18, f"{title.ja} / {title.en}: {len(seconds)} / {count}", "strong")

    def across(second: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * second / span, 1)

    def up(number: int) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * number / max(count, 1), 1)

    step = tick_seconds(span)
    for place in range(int(span / step) + 1):
        line(root, across(place * step), up(count), up(0), "tick")
        label(root, across(place * step), _HEIGHT - 20, f"+{place * step:g} s", "small dim middle")
    for number in {0, count}:
        label(root, _LEFT - 8, up(number) + 4, str(number), "small dim end")
    points = [(across(0), up(0))]
    for number, second in enumerate(seconds, 1):
        points += [(across(second), up(number - 1)), (across(second), up(number))]
    points.append((across(span), up(len(seconds))))
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    SubElement(root, "polyline", {"points": path, "class": "moment frozen", "fill": "none"})
    return tostring(root, encoding="unicode")
