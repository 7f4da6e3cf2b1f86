"""Words: what the figures of each section mean."""

__all__ = ["MEANINGS"]

MEANINGS = {
    "W1": (
        "A chain of three trivial sync steps with a 250-byte payload. A client emits an event, awaits the result, and begins "
        "again; *n in flight* is n such clients in one event loop. *No log* is the same chain as naive Ray calls: three "
        "actors called in turn, nothing durable. RSS counts shared pages in every process, PSS once; *ray* is what Ray "
        "runs for itself."
    ),
    "W2": (
        "Validate, branch on the amount, fan out to four, join: seven step executions a run (one validates and branches, "
        "one splits, four check, one joins)."
    ),
    "Small costs": (
        "Microseconds an event: what the codec and `decide` take on one core with nothing else. `decide` is driven with "
        "fake workers that answer at once, and includes packing the records. A waiting run has failed once and waits for "
        "its retry; its memory is what the resident memory of the process grew by, payload included."
    ),
}
