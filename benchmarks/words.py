"""Words: the sections of the table, and what their figures mean."""

__all__ = ["FLOOR", "IN_FLIGHT", "MEANINGS", "RESTART", "SMALL", "W1", "W2", "WEBHOOKS"]

W1 = "W1"
W2 = "W2"
WEBHOOKS = "Signed webhooks"
IN_FLIGHT = "Many runs in flight"
RESTART = "Restart on a long log"
SMALL = "Small costs"
FLOOR = "The floor: the log alone"

MEANINGS = {
    W1: (
        "A chain of three trivial sync steps; events of 250 bytes. A client emits an event, awaits the result and begins "
        "again; *n in flight* is n such clients in one event loop. *No log* is the same chain as naive Ray calls: three "
        "actors called in turn by the same clients, nothing durable. *Workers* are the processes of the steps, *ray* is "
        "what Ray runs for itself; RSS counts a page in every process that shares it, PSS once. Where three measurements "
        "were made the figure is their median, with the least and the most."
    ),
    W2: (
        "Validate and branch on the amount, split, check four parts, join them: seven step executions a run; otherwise as "
        "W1."
    ),
    WEBHOOKS: (
        "wrk, 64 connections over loopback, one server process; a body of 300 bytes signed as GitHub signs, every delivery "
        "with an id of its own. ensue answers 202 after the commit, and the run's one step is carried out in the same "
        "time. wrk hangs up on what is under way at its end, so the log may hold up to 64 more a visit (warm-up and "
        "measurement are two) than were answered, and never one less: otherwise this fails. FastAPI makes the same checks "
        "(HMAC, JSON, pydantic) and stores nothing."
    ),
    IN_FLIGHT: (
        "W1, FULL. Clients submit a hundred runs at once and the next hundred when those are over; only the number of "
        "clients differs. *Drain*: all submitted in one go, counted from when the last was accepted."
    ),
    RESTART: (
        "A log of W1 runs: those that are alive stand before their second step, all others are finished. No snapshot "
        "unless said, which is the worst that `kill -9` leaves. Ray itself runs already; what is timed is recovery "
        "(`recover()`), then the whole start of the engine with its workers until `ready`, and until the oldest run that "
        "was alive is finished."
    ),
    SMALL: (
        "Microseconds on one core with nothing else. `decide` is driven by fake workers that answer at once, and includes "
        "packing the records; a run of W1 is four events. A waiting run has failed once and waits for its retry: its "
        "memory is what the process grew by, payload included."
    ),
    FLOOR: "Group commits with W1's rows (four entries, a start and an end a run) and nothing else running.",
}
