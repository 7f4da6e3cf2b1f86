"""The pipeline that the crash harness has served and killed: a fan-out that is gathered, a key, and a mark outside.

    Order  split ─▶ [Part] ─▶ weigh ─▶ [Weighed] ─┐
           enter ─▶ Entry ─▶ book (by account) ───┴▶ close ─▶ Closed

`book` has a side effect outside of ensue: one line, its idempotency key and the event's number, in the file that
ENSUE_FAULTS_LEDGER names. A line is one write to a file opened for appending, so a kill cannot tear it in two. Steps
take some milliseconds, so that a kill hits work in progress; ENSUE_FAULTS_WORK_SECONDS says how long.
"""

import asyncio
import os

from ensue import Context, Event, Pipeline, Retry

LEDGER_ENV = "ENSUE_FAULTS_LEDGER"
PARTS = 2
WORK_ENV = "ENSUE_FAULTS_WORK_SECONDS"
PATIENT = Retry(attempts=50, wait=0.1)
"""Kills may hit the same event again and again here, and that must not make it fail."""

flow = Pipeline("faults")


class Order(Event):
    n: int
    account: str


class Part(Event):
    n: int
    weight: int


class Weighed(Event):
    weight: int


class Entry(Event, key="account"):
    n: int
    account: str


class Booked(Event):
    n: int


class Closed(Event):
    n: int
    weight: int


@flow.step(retry=PATIENT)
async def split(order: Order) -> list[Part]:
    return [Part(n=order.n, weight=order.n + place) for place in range(PARTS)]


@flow.step(retry=PATIENT)
async def weigh(part: Part) -> Weighed:
    await asyncio.sleep(float(os.environ.get(WORK_ENV, "0.01")))
    return Weighed(weight=part.weight)


@flow.step(retry=PATIENT)
async def enter(order: Order) -> Entry:
    return Entry(n=order.n, account=order.account)


@flow.step(retry=PATIENT)
async def book(entry: Entry, ctx: Context) -> Booked:
    number = os.open(os.environ[LEDGER_ENV], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(number, f"{ctx.idempotency_key} {entry.account} {entry.n}\n".encode())
    finally:
        os.close(number)
    await asyncio.sleep(float(os.environ.get(WORK_ENV, "0.01")))
    return Booked(n=entry.n)


@flow.step(retry=PATIENT)
async def close(booked: Booked, parts: list[Weighed]) -> Closed:
    return Closed(n=booked.n, weight=sum(part.weight for part in parts))
