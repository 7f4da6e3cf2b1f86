"""Words: the sections of the table, and what their figures mean."""

__all__ = ["FLOOR", "IN_FLIGHT", "MEANINGS", "RESTART", "SMALL", "STARTS", "W1", "W2", "WEBHOOKS"]

W1 = "W1"
W2 = "W2"
WEBHOOKS = "Signed webhooks"
IN_FLIGHT = "Many runs in flight"
RESTART = "Restart on a long log"
SMALL = "Small costs"
STARTS = "Starts"
FLOOR = "The floor: the log alone"

MEANINGS = {
    W1: (
        "A chain of three trivial sync steps; events of 250 bytes. A client emits an event, awaits the result and "
        "starts again; *n in flight* is n such clients in one event loop. *No log* is the same chain as naive Ray "
        "calls: three actors called in turn by the same clients, nothing durable. *Workers* are the processes of "
        "the steps, *ray* those of Ray itself; RSS counts a page in every process that shares it, PSS once. If a "
        "figure was measured three times, it is the median, with the range."
    ),
    W2: (
        "Validate and branch on the amount, split, check four parts, join them: seven step executions a run; "
        "otherwise as W1."
    ),
    WEBHOOKS: (
        "wrk, 64 connections over loopback, one server process; a body of 300 bytes signed as GitHub signs, every "
        "delivery with an id of its own. ensue answers 202 after the commit, and the run's one step is executed "
        "in the same time. wrk closes its connections at the end, so the log may have up to 64 deliveries more "
        "for each of the two visits (warm-up and measurement) than were answered, and never one less: otherwise "
        "the benchmark fails. FastAPI makes the same checks (HMAC, JSON, pydantic) and stores nothing."
    ),
    IN_FLIGHT: (
        "W1, FULL. Clients submit a hundred runs at once and the next hundred when those are finished; only the "
        "number of clients differs. *Drain*: all are submitted at once, and the time counts from when the last "
        "was accepted."
    ),
    STARTS: (
        "`ensue run examples/orders.py` with one order; then W1 on FULL with 16 clients, counted second by second from "
        "the moment at which the engine is ready, over the median of ten seconds when all processes are at rest."
    ),
    RESTART: (
        "A log of W1 runs: live runs wait for their second step, all others are finished. There is no snapshot "
        "unless the figure says so, which is the worst that `kill -9` leaves. Ray runs already; timed are the "
        "recovery (`recover()`), the whole start of the engine with its workers until `ready`, and the time until "
        "the oldest live run is finished."
    ),
    SMALL: (
        "Microseconds on one core with no other load. `decide` is driven by fake workers that answer at once, and "
        "includes packing the records; a run of W1 is four events. A waiting run has failed once and waits for "
        "its retry: its memory is the growth of the process, payload included."
    ),
    FLOOR: "Group commits with W1's rows (four entries, a start and an end a run) and no other load.",
}
