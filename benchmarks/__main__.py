"""`python -m benchmarks`: all cases, one table, RESULTS.md. `--quick` for rough figures, `--only NAME` for some cases.

Only a full run of all cases writes RESULTS.md and results.json here; `--output` names another folder for any run.
"""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from .cases import CASES
from .machine import describe
from .reach import judge
from .report import as_document, as_markdown, show
from .runner import run_cases
from .sections import assemble

_HERE = Path(__file__).resolve().parent
_WIDTH = 160


def main() -> int:
    options = _options()
    if options.list:
        print("\n".join(CASES))
        return 0
    names = _names(options)
    if not names:
        print(f"no case is called {' or '.join(options.only)}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    machine, begin = describe(), time.monotonic()
    run = run_cases(
        names, options.folder, lambda line: console.print(line, style="dim", markup=False), quick=options.quick
    )
    machine["took"] = f"{time.monotonic() - begin:.0f} s{', rough figures only' if options.quick else ''}"
    reached = judge(run.figures)
    show(console, machine, run, reached)
    output = options.output or (_HERE if not options.quick and not options.only else None)
    if output is not None:
        (output / "RESULTS.md").write_text(assemble(as_markdown(machine, run, reached)), encoding="utf-8")
        (output / "results.json").write_text(as_document(machine, run, reached), encoding="utf-8")
    return 1 if run.failed else 0


def _names(options: argparse.Namespace) -> list[str]:
    if options.only:
        return [name for name in CASES if any(name.startswith(part) for part in options.only)]
    return [name for name, case in CASES.items() if case.in_quick or not options.quick]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="All benchmarks, as one table.")
    parser.add_argument("--quick", action="store_true", help="small loads and rough figures, in under two minutes")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="cases that begin so; repeatable")
    parser.add_argument("--list", action="store_true", help="the names of the cases")
    parser.add_argument("--folder", type=Path, help="where stores are made: a disk like the one to be measured")
    parser.add_argument("--output", type=Path, help="write RESULTS.md and results.json to this folder, come what may")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was written")
