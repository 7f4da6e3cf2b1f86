"""The long part: power cuts, fencing, poison, and then kills for as long as there is time.

    python tests/faults/torture.py --minutes 60 --events 1000000 --kills 1000 --output FILE

Rules: it ends by itself, says how far it got, and exits with 1 where a promise was broken. Its table is for people; the
JSON document, printed last and written to FILE, has all figures.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # as a script: this folder's neighbours are found from the root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.faults.campaign import Plan, Report, run_campaign
from tests.faults.fencing import fence
from tests.faults.killer import Kind
from tests.faults.poisoning import Poisoning, poisoned
from tests.faults.power_trial import Durability, cuts

_SHARES: dict[Kind, float] = {
    "worker": 0.92,
    "stopped worker": 0.01,
    "partition": 0.03,
    "keeper": 0.01,
    "everything": 0.01,
    "drain": 0.01,
    "raylet": 0.005,
    "gcs": 0.005,
}
"""Of all kills: the dear ones are few, or there would be time for nothing else."""
_DRAIN_SHARE = 0.1
"""Of the time: for the drain and the judge at the end."""
_POISONED_EVENTS = 1_000
_POISONED_WORK_SECONDS = 1.0
"""A death costs a worker about a second, whatever its work: what matters is how much work that is."""


def main() -> int:
    """All parts; 0 where every promise held."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # nothing that was started is left behind
    wanted = _arguments()
    ends = time.monotonic() + wanted.minutes * 60
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ensue-torture-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        figures["power"] = {durability: _power(home, durability, wanted) for durability in ("full", "relaxed")}
        _say(f"power {figures['power']}")
        figures["fencing"] = _fencing(home, wanted)
        _say(f"fencing {figures['fencing']}")
        figures["poison"] = _poison(home, wanted)
        _say(f"poison {figures['poison']}")
        minutes = max(1.0, (ends - time.monotonic()) / 60 * (1 - _DRAIN_SHARE))
        report = _crashes(home, wanted, minutes)
    figures["crashes"] = report.figures
    _say(report.table())
    _say(json.dumps(figures))
    if wanted.output:
        wanted.output.parent.mkdir(parents=True, exist_ok=True)
        wanted.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(_is_broken(figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill it for an hour, and see what is lost.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--cuts", type=int, default=5_000, help="power cuts, half of them with relaxed durability")
    parser.add_argument("--fencings", type=int, default=200)
    parser.add_argument("--poisoned", type=int, default=_POISONED_EVENTS, help="events of the load with poison in it")
    parser.add_argument("--rate", type=float, default=600.0, help="events a second while the server is there")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def _power(home: Path, durability: Durability, wanted: argparse.Namespace) -> dict[str, Any]:
    folder = home / durability
    folder.mkdir()
    found = cuts(folder, wanted.cuts // 2, wanted.seed, durability)
    return {"cuts": found.cuts, "commits": found.commits, "cuts_that_took_commits": found.losing, "wrong": found.wrong}


def _fencing(home: Path, wanted: argparse.Namespace) -> dict[str, Any]:
    found = fence(home, wanted.fencings, wanted.seed)
    unfenced = [words for words in found.last_words if "StaleEpoch" not in words]
    return {
        "trials": found.trials,
        "accepted_before": found.accepted,
        "found_locked": found.found_locked,
        "wrong": found.wrong + unfenced,
    }


def _poison(home: Path, wanted: argparse.Namespace) -> dict[str, Any]:
    runs: dict[str, Poisoning] = {}
    for name, each in (("clean", 0), ("poisoned", max(1, wanted.poisoned // 500))):
        folder = home / name
        folder.mkdir()
        runs[name] = poisoned(folder, wanted.poisoned, each, _POISONED_WORK_SECONDS)
    found = runs["poisoned"]
    return {
        "events": found.events,
        "work_seconds": found.work_seconds,
        "poison": len(found.poisons),
        "clean_a_second": round(runs["clean"].healthy_a_second, 2),
        "healthy_a_second": round(found.healthy_a_second, 2),
        "share_of_clean": round(found.healthy_a_second / runs["clean"].healthy_a_second, 3),
        "wrong": found.harmed + list(found.survived),
    }


def _crashes(home: Path, wanted: argparse.Namespace, minutes: float) -> Report:
    folder = home / "crashes"
    folder.mkdir()
    kills: dict[Kind, int] = {kind: max(1, round(wanted.kills * share)) for kind, share in _SHARES.items()}
    kills["worker"] -= sum(kills.values()) - wanted.kills
    plan = Plan(wanted.events, kills, wanted.rate, minutes, seed=wanted.seed)
    return run_campaign(folder, plan, _say)


def _is_broken(figures: dict[str, Any]) -> bool:
    crashes = figures["crashes"]
    parts = [*figures["power"].values(), figures["fencing"], figures["poison"]]
    stuck = any(times.get("stuck") for times in crashes["back_at_work"].values())
    return any(part["wrong"] for part in parts) or bool(crashes["faults"] or crashes["contradictions"]) or stuck


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program that prints


if __name__ == "__main__":
    sys.exit(main())
