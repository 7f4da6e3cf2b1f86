"""Desk: stands in for the workers and the callers of a partition that a test turns by hand."""

from typing import Any

from ensue.actors.transport.messages import Tag, unpack_message
from ensue.events.decide.commands import Answer, RunEnded

__all__ = ["Desk"]


class Desk:
    """Keeps the deliveries of each worker and the answers to callers; it sends nothing by itself."""

    def __init__(self) -> None:
        self.sent: dict[int, list[list[Any]]] = {}
        self.answers: list[Answer] = []

    def send(self, worker: int, message: bytes) -> None:
        tag, body = unpack_message(message)
        if tag == Tag.DELIVER:
            self.sent.setdefault(worker, []).extend(body)

    def receive(self) -> list[tuple[int, bytes]]:
        return []

    def kill(self, worker: int, reason: str) -> None:
        raise AssertionError

    def wait(self, timeout_seconds: float | None) -> None:
        raise AssertionError

    def wake(self) -> None:
        """Nothing sleeps here."""

    def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
        self.answers += answers

    def on_progress(self, run_id: bytes, step: str, done: float, total: float) -> None:
        """Progress is not kept here."""

    def on_message(self, worker: int, tag: int, body: Any) -> None:
        """Questions get no answer here."""
