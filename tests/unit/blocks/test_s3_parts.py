"""Parts of several objects share one line: so many at a time, first those of the object that was begun first."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import Any

from blocks.s3.parts import AT_ONCE, MultipartObjects
from tasks.custody.evidence.part_sizes import Part

NOTHING: Any = None


def parts(count: int) -> list[Part]:
    return [Part(number, 0, 1, "") for number in range(1, count + 1)]


def test_the_parts_of_the_next_object_begin_while_the_last_of_the_one_before_are_sent() -> None:
    objects, begun, lock, gate = MultipartObjects(NOTHING, NOTHING, "b", NOTHING), list[str](), Lock(), Event()

    def first(part: Part) -> None:
        with lock:
            begun.append(f"first {part.number}")
        assert part.number == 1 or gate.wait(30)

    def second(part: Part) -> None:
        with lock:
            begun.append(f"second {part.number}")
        gate.set()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(objects._together, first, parts(AT_ONCE))
        while len(begun) < AT_ONCE:
            pass
        pool.submit(objects._together, second, parts(1)).result(30)
        one.result(30)
    assert begun[-1] == "second 1"
