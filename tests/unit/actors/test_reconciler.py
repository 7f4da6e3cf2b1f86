"""The reconciler, and the processes that supervisors see to."""

import os
import subprocess
import sys
import threading
import time
from unittest.mock import Mock

import pytest

from ensue.actors.pool.reconciler import Reconciler
from ensue.cluster import processes
from ensue.cluster.processes import NO_PROCESS, ProcessHandle, ProcessWatcher, handle_of, is_gone, kill, wait_until_gone

from ... import child_process

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
    return child_process.spawn([sys.executable, "-c", "import signal; signal.pause()"])


def test_a_process_that_is_ended_is_seen_to_be_gone_while_it_is_still_a_zombie() -> None:
    process = sleeper()
    handle = handle_of(process.pid)
    assert not is_gone(handle)
    kill(handle)
    assert wait_until_gone([handle], SECONDS)
    child_process.kill(process)


def test_a_process_that_got_the_id_of_another_is_neither_taken_for_it_nor_ended() -> None:
    process = sleeper()
    try:
        earlier = ProcessHandle(process.pid, "1")
        assert is_gone(earlier)
        kill(earlier)
        kill(NO_PROCESS)
        assert process.poll() is None
        assert not is_gone(handle_of(process.pid))
        assert not wait_until_gone([handle_of(os.getpid())], 0.0)
    finally:
        child_process.kill(process)


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_a_watcher_tells_of_each_process_that_ends_and_of_one_that_had_ended(
    monkeypatch: pytest.MonkeyPatch, has_pidfd: bool
) -> None:
    if not has_pidfd:
        monkeypatch.setattr(processes, "_open_pidfd", Mock(return_value=None))
    ends, stays, was = sleeper(), sleeper(), sleeper()
    watcher, ended = ProcessWatcher(), list[str]()
    try:
        gone = handle_of(was.pid)
        child_process.kill(was)
        watcher.watch(handle_of(ends.pid), lambda: ended.append("ends"))
        watcher.watch(handle_of(stays.pid), lambda: ended.append("stays"))
        watcher.watch(gone, lambda: ended.append("was"))
        ends.kill()
        deadline = time.monotonic() + SECONDS
        while len(ended) < 2 and time.monotonic() < deadline:
            watcher.wait(SECONDS)
        assert sorted(ended) == ["ends", "was"]
        watcher.wake()
        watcher.wait(SECONDS)
        assert sorted(ended) == ["ends", "was"]
    finally:
        for process in (ends, stays):
            child_process.kill(process)
