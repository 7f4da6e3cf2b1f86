"""The reconciler, and the processes that supervisors see to."""

import os
import subprocess
import sys
import threading

from ensue.actors.pool.reconciler import Reconciler
from ensue.cluster.processes import NOBODY, ProcessMark, are_gone, end, is_gone, mark_of

from ...child_process import kill, spawn

SECONDS = 10.0


def test_an_item_that_always_fails_does_not_keep_the_reconciler_from_the_others() -> None:
    rounds = threading.Semaphore(0)

    def fails() -> None:
        raise RuntimeError("this one is always bad")

    reconciler = Reconciler({"a bad item": fails, "a good item": rounds.release})
    reconciler.start()
    try:
        for _ in range(3):
            reconciler.hurry()
            assert rounds.acquire(timeout=SECONDS)
    finally:
        reconciler.end(SECONDS)


def sleeper() -> "subprocess.Popen[bytes]":
    return spawn([sys.executable, "-c", "import signal; signal.pause()"])


def test_a_process_that_is_ended_is_seen_to_be_gone_while_it_is_still_a_zombie() -> None:
    process = sleeper()
    mark = mark_of(process.pid)
    assert not is_gone(mark)
    end(mark)
    assert are_gone([mark], SECONDS)
    kill(process)


def test_a_process_that_got_the_id_of_another_is_neither_taken_for_it_nor_ended() -> None:
    process = sleeper()
    try:
        earlier = ProcessMark(process.pid, "1")
        assert is_gone(earlier)
        end(earlier)
        end(NOBODY)
        assert process.poll() is None
        assert not is_gone(mark_of(process.pid))
        assert not are_gone([mark_of(os.getpid())], 0.0)
    finally:
        kill(process)
