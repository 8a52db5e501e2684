"""Kin are looked for all the time while they are asked about, not at the looks of the stop alone."""

from tasks.host.descent import DescendantTracker
from tasks.host.process.process import Process
from tests.support.paper_host import PaperHost, process
from tests.support.workloads import wait_until

FIRST, CHILD = process(1), process(2, parent=process(1).pid)
GRANDCHILD, STRANGER = process(3, parent=CHILD.pid), process(4)


class Births(PaperHost):
    """A host on which one after the other is born, each dead when the next one comes."""

    def __init__(self, *born: Process) -> None:
        """They come in this order."""
        super().__init__(FIRST)
        self.born = list(born)

    def arrivals(self, last: int) -> tuple[int, list[Process]]:
        """The next one."""
        return last + 1, [self.born.pop(0)] if last >= 0 and self.born else []


def test_who_lives_between_two_looks_of_the_stop_is_known_as_kin() -> None:
    host = Births(CHILD, STRANGER, GRANDCHILD)
    with DescendantTracker(host, [FIRST.identity]) as kin:
        wait_until(lambda: not host.born, what="their births")
        wait_until(lambda: GRANDCHILD.pid in kin.descendants, what="the last of them")
    assert set(kin.descendants.values()) == {FIRST.identity, CHILD.identity, GRANDCHILD.identity}
    assert not kin._thread.is_alive()
