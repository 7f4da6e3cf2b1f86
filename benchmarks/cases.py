"""The cases: every benchmark by name, each of which runs in a process of its own, and how long it may take.

`python -m benchmarks.cases NAME FOLDER quick|full` runs one and leaves its figures in FOLDER/figures.json.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from .figures import Figure, Settings, as_json
from .words import W1, W2

__all__ = ["CASES", "FIGURES_FILE", "Case"]

FIGURES_FILE = "figures.json"


class Case(NamedTuple):
    """One case.

    module, function: where it is, in `measurements`.
    arguments: of the function, after the settings.
    limit_seconds: after which it is killed.
    needs: the program that it needs.
    in_quick: whether `--quick` runs it.
    """

    module: str
    function: str
    arguments: tuple[str, ...] = ()
    limit_seconds: float = 150.0
    needs: str = ""
    in_quick: bool = True

    def load(self) -> Callable[[Settings], list[Figure]]:
        """The function; its module is imported here, in the process of the case."""
        function: Any = getattr(import_module(f".measurements.{self.module}", __package__), self.function)

        def run(settings: Settings) -> list[Figure]:
            figures: list[Figure] = partial(function, settings)(*self.arguments)
            return figures

        return run


CASES = {
    "w1-full": Case("engines", "measure", (W1, "full")),
    "naive-ray": Case("naive_ray", "measure"),
    "start-command": Case("starts", "measure_command"),
    "start-seconds": Case("starts", "measure_first_seconds"),
    "w1-relaxed": Case("engines", "measure", (W1, "relaxed"), in_quick=False),
    "w1-memory": Case("engines", "measure", (W1, "memory")),
    "w2-full": Case("engines", "measure", (W2, "full")),
    "w2-relaxed": Case("engines", "measure", (W2, "relaxed"), in_quick=False),
    "w2-memory": Case("engines", "measure", (W2, "memory"), in_quick=False),
    "webhooks": Case("webhooks", "measure", needs="wrk"),
    "in-flight": Case("in_flight", "measure", limit_seconds=240.0),
    "restart-few": Case("restart", "measure", ("few",)),
    "restart-many": Case("restart", "measure", ("many",), limit_seconds=240.0),
    "import": Case("micro", "measure_import"),
    "codec": Case("micro", "measure_codec"),
    "decide": Case("micro", "measure_decide"),
    "waiting": Case("micro", "measure_waiting"),
    "floor": Case("floor", "measure_floor"),
}


def main() -> None:
    name, folder, size = sys.argv[1:4]
    settings = Settings(Path(folder), quick=size == "quick")
    figures = CASES[name].load()(settings)
    (settings.folder / FIGURES_FILE).write_text(json.dumps(as_json(figures)), encoding="utf-8")


if __name__ == "__main__":
    main()
