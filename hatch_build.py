"""The build hook: it refuses an editable install of a checkout without symbolic links.

Rules: `src/ensue` holds links to the modules at the top. Where git cannot make links (core.symlinks=false), it writes
files with the text of each link instead, and an editable install of those ends in a SyntaxError at the first import.
An sdist has no `src`, and a wheel is built from the modules themselves, so neither is refused.
"""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SymbolicLinksHook(BuildHookInterface[Any]):
    """Ends the build with one line on stderr if a link is a plain file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the hook's signature
        if version != "editable":
            return
        for path in sorted((Path(self.root) / "src" / "ensue").iterdir()):
            if path.is_file() and not path.is_symlink():
                sys.exit(
                    f"ensue: src/ensue/{path.name} is a file instead of a symbolic link: "
                    "run `git config core.symlinks true`, then check out again"
                )
