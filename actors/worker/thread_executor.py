"""ThreadExecutor: runs sync steps in threads that share one queue.

Rules: one thread works while deliveries are quick. Another is added each time the queue has not moved for about 2 ms,
up to the step's concurrency. So one thread does quick events in bulk, without a switch of threads an event, and a slow
event blocks only its own thread.
"""

import asyncio
import threading
import time
from contextvars import Context

from ...events.decide.inputs import Completion, CompletionKind
from .executor import Executor, Running, max_ahead
from .invoke import Invoker, Item
from .outbox import Outbox

__all__ = ["ThreadExecutor"]

_IDLE_SECONDS = 5.0


class ThreadExecutor(Executor):
    """Runs sync functions and generators in threads."""

    def __init__(self, invoker: Invoker, outbox: Outbox) -> None:
        super().__init__(invoker, outbox)
        self._streams = invoker.step.style.endswith("stream")
        self._idle: list[threading.Lock] = []
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def report(self, completion: Completion) -> None:
        """Report what became of an attempt; `_work` sends it."""
        self.outbox.put(completion)

    def submit(self, items: list[Item]) -> None:
        self.queue.extend(items)
        if len(self._idle) == len(self._threads):
            self._add_thread()

    def nudge(self) -> None:
        if self.queue:
            self._add_thread()

    def interrupt(self, running: Running) -> bool:
        if running.wake is not None:
            running.wake.release()
        return False

    def resume_stream(self, running: Running) -> None:
        if running.wake is not None:
            running.wake.release()

    def close(self, grace_seconds: float) -> None:
        self.stopping = True
        self.hand_back()
        deadline = time.monotonic() + grace_seconds
        with self._lock:
            while self._idle:
                self._idle.pop().release()
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        asyncio.run(self.close_step())

    def _add_thread(self) -> None:
        """Wake an idle thread, or start another."""
        with self._lock:
            if self._idle:
                self._idle.pop().release()
            elif len(self._threads) < self.concurrency and not self.stopping:
                thread = threading.Thread(target=self._work, name=f"step-{self.invoker.step.name}", daemon=True)
                self._threads.add(thread)
                thread.start()

    def _work(self) -> None:
        run = self._stream if self._streams else self._run
        signal = threading.Lock()
        signal.acquire()
        while True:
            try:
                item = self.queue.popleft()
            except IndexError:
                self.outbox.flush()
                if self._rest(signal):
                    continue
                return
            Context().run(run, item)
            if self.queue:
                self.outbox.ring()

    def _rest(self, signal: threading.Lock) -> bool:
        """Wait for work; False if the thread should end."""
        with self._lock:
            self._idle.append(signal)
            if self.queue:
                self._idle.remove(signal)
                return True
        if not self.stopping and signal.acquire(timeout=_IDLE_SECONDS):
            return True
        with self._lock:
            if signal not in self._idle:
                signal.acquire()  # woken at this very moment
                return True
            self._idle.remove(signal)
            if self.stopping or len(self._threads) > 1:
                self._threads.discard(threading.current_thread())
                return False
        return True

    def _run(self, item: Item) -> None:
        started = time.monotonic()
        running = Running(item, started, started)
        self.running[item[0]] = running
        try:
            function, arguments = self.invoker.call(item, self.wall())
            result = function(**arguments)
            duration_us = int((time.monotonic() - started) * 1e6)
            completion = self.invoker.done(item, result, duration_us)
        except BaseException as error:  # noqa: BLE001 - every end of an attempt is reported
            self.raised(running, error)
        else:
            self.finished(running, completion)

    def _stream(self, item: Item) -> None:
        started = time.monotonic()
        running = Running(item, started, started, credit=item[5], wake=threading.Semaphore(0))
        self.running[item[0]] = running
        try:
            function, arguments = self.invoker.call(item, self.wall())
            index = -1
            for event in function(**arguments):
                running.touched = time.monotonic()
                if running.unwanted:
                    break
                if event is None:
                    continue
                index += 1
                running.emitted = index + 1
                output = self.invoker.output(event, many=True)
                self.outbox.add([CompletionKind.STREAM, item[0], index, [output]])
                ahead = max_ahead(output)
                while index - running.credit >= ahead and not running.unwanted:
                    running.paused = True
                    running.wake.acquire()
                    running.touched = time.monotonic()
                    running.paused = False
        except BaseException as error:  # noqa: BLE001 - as in `_run`
            self.raised(running, error)
            return
        duration_us = int((time.monotonic() - started) * 1e6)
        if running.overdue:
            self.raised(running, TimeoutError())
        else:
            self.finished(running, self.invoker.streamed(running, duration_us))
