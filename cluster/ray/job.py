"""The job config of a driver: its import path, so that Ray's workers find the same code.

Rules:
1. Workers get the driver's import path, in its order; what every Python of this environment has is left out.
2. Nothing else is put on it. Ray itself adds the working folder in front, where a module of the same name would
   replace the driver's.
"""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path
from typing import Any

__all__ = ["code_folders", "job_config"]


def job_config() -> Any:
    """The `ray.job_config.JobConfig` for `ray.init`."""
    from ray.job_config import JobConfig  # noqa: PLC0415 - lazily: it takes half a second

    class DriversPath(JobConfig):
        """Lists the driver's folders, whatever else Ray has added; a worker puts each in front of those before it."""

        def _serialize(self) -> str:
            self._py_driver_sys_path = code_folders()[::-1]
            return super()._serialize()

    return DriversPath()


def code_folders() -> list[str]:
    """The folders that this process imports from, without those of Python and its environment."""
    common = _common_folders()
    folders = dict.fromkeys(str(Path(entry or ".").absolute()) for entry in sys.path)
    return [folder for folder in folders if folder not in common and Path(folder).exists()]


def _common_folders() -> set[str]:
    paths = sysconfig.get_paths()
    standard = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    extensions = str(Path(paths["platstdlib"]) / "lib-dynload")
    return {*standard, extensions, *site.getsitepackages(), site.getusersitepackages()}
