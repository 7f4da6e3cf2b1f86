"""A test that `test_killed_run.py` runs and kills: it starts a Ray and a program that outlives its parent, and waits.

Its name keeps it out of the tests that are collected. It writes the ids of all that it has started to `HELD_RUN`.
"""

import os
import sys
from pathlib import Path
from threading import Event

from ensue.cluster.ray.session import Session

from ..child_process import spawn
from .processes import descendants

SECONDS = 300.0


def test_that_is_killed(ray_session: Session) -> None:
    spawn([sys.executable, "-c", f"import time; time.sleep({SECONDS})"], start_new_session=True)
    notes = Path(os.environ["HELD_RUN"])
    unnamed = notes.with_suffix(".new")
    unnamed.write_text("\n".join(map(str, (os.getpid(), *descendants(os.getpid())))))
    unnamed.rename(notes)
    Event().wait(SECONDS)
