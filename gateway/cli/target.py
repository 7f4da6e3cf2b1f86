"""TARGET: from what a user writes on the command line to the pipeline that it means.

1. `module:pipeline`, `path/to/file.py` or `path/to/file.py:pipeline`. The name may be left out where there is only one.
2. A file is imported by its own name, with its folder first on the path (for a file in a package: the folder that holds
   the package), so that the workers, who are given the same path, import it by that name too.
3. A name that another module has already is refused: a worker would run the wrong code.
4. Whatever is wrong is a `TargetInvalid` of one line that names the TARGET and says what to do. What the author of a
   pipeline did wrong keeps its own class, so that `ensue check` can tell it as a finding.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ...events.errors import PipelineInvalid, TargetInvalid
from ...events.pipelines.pipeline import Pipeline

__all__ = ["load"]


@dataclass(frozen=True, slots=True)
class _Target:
    """A TARGET taken apart: the module's name, the file where one was named, and the pipeline's name or nothing."""

    text: str
    module: str
    pipeline: str
    file: Path | None = None

    def wrong(self, message: str) -> TargetInvalid:
        """The error for this target."""
        return TargetInvalid(f"TARGET {self.text}: {message}")


def load(text: str) -> Pipeline:
    """The pipeline of a TARGET. Raises `TargetInvalid`, or `PipelineInvalid` where its declaration is wrong."""
    target = _read(text)
    if target.file is None:
        _put_first(str(Path.cwd()))
    else:
        _refuse_taken(target, target.file)
        _put_first(str(_import_folder(target.file)))
    return _choose(target, _import(target))


def _read(text: str) -> _Target:
    location, _, name = text.partition(":")
    if os.sep in location or location.endswith(".py") or location in {".", ".."}:
        return _read_file(text, location, name)
    if not location or not all(part.isidentifier() for part in location.split(".")):
        raise TargetInvalid(f"TARGET {text!r} names no pipeline: write module:pipeline, or path/to/file.py")
    return _Target(text, location, name)


def _read_file(text: str, location: str, name: str) -> _Target:
    file = Path(os.path.normpath(Path(location).expanduser().absolute()))
    target = _Target(text, "", name, file)
    if file.is_dir():
        raise target.wrong("this is a folder: name a file in it, such as " + str(Path(location) / "pipeline.py"))
    if not file.exists():
        raise target.wrong(
            "no such file" + (f"; the folder is {Path.cwd()}" if not Path(location).is_absolute() else "")
        )
    if file.suffix != ".py":
        raise target.wrong("not a Python file: its name must end in .py")
    if "." in file.stem:
        raise target.wrong(f"a module's name has no dots: rename {file.name}")
    return _Target(text, _module_name(file), name, file)


def _package(file: Path) -> list[Path]:
    """The folders of the package that a file is part of, from the outside in; none where it stands alone."""
    folders: list[Path] = []
    for folder in file.parents:
        if not (folder / "__init__.py").exists() or not folder.name.isidentifier():
            break
        folders.insert(0, folder)
    return folders


def _module_name(file: Path) -> str:
    parts = [folder.name for folder in _package(file)]
    return ".".join(parts if file.stem == "__init__" and parts else [*parts, file.stem])


def _import_folder(file: Path) -> Path:
    return next(iter(_package(file)), file).parent


def _refuse_taken(target: _Target, file: Path) -> None:
    """A file whose name another module has: the workers would find that one."""
    if target.module in sys.stdlib_module_names:
        raise target.wrong(f"Python itself has a module named {target.module!r}: rename the file")
    present = sys.modules.get(target.module)
    where = getattr(present, "__file__", None)
    if present is not None and (where is None or not Path(where).samefile(file)):
        raise target.wrong(f"a module named {target.module!r} is loaded already, from {where}: rename one of the two")


def _put_first(folder: str) -> None:
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()


def _import(target: _Target) -> ModuleType:
    try:
        return importlib.import_module(target.module)
    except PipelineInvalid as error:
        raise PipelineInvalid(f"{_place(error, target)}: {error}") from error
    except ModuleNotFoundError as error:
        if target.file is None and error.name and f"{target.module}.".startswith(f"{error.name}."):
            raise target.wrong(f"there is no module {error.name!r} here ({Path.cwd()}): mend the name") from error
        raise _not_importable(target, error) from error
    except (Exception, SystemExit) as error:
        raise _not_importable(target, error) from error


def _not_importable(target: _Target, error: BaseException) -> TargetInvalid:
    kind, _, message = " ".join(traceback.format_exception_only(error)[-1].split()).partition(": ")
    text = f"{kind}: {message}" if message else kind
    return target.wrong(f"does not import: {_place(error, target)}: {text[:300]}")


def _place(error: BaseException, target: _Target) -> str:
    """Where in the user's own code an error arose, as file:line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    if own:
        return f"{_shown(own[-1].filename)}:{own[-1].lineno}"
    return _shown(str(target.file)) if target.file else target.module


def _is_library(filename: str) -> bool:
    """Ours, Python's or an installed one: not where a user looks first."""
    ours = str(Path(__file__).resolve().parents[2])
    resolved = str(Path(filename).resolve())
    in_ours = any(resolved.startswith(f"{ours}{os.sep}{part}{os.sep}") for part in _OUR_FOLDERS)
    return in_ours or filename.startswith(("<", _STDLIB)) or "site-packages" in filename


_OUR_FOLDERS = ("events", "cluster", "actors", "gateway")
_STDLIB = str(Path(os.__file__).parent)


def _shown(filename: str) -> str:
    """A path as short as it can be said."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


def _choose(target: _Target, module: ModuleType) -> Pipeline:
    names: dict[str, Any] = vars(module)
    if target.pipeline:
        return _named(target, names)
    found = {id(value): name for name, value in reversed(names.items()) if isinstance(value, Pipeline)}
    known = [name for name in names if name in found.values()]
    if len(known) == 1:
        pipeline: Pipeline = names[known[0]]
        return pipeline
    location = target.text.partition(":")[0]
    if not known:
        raise target.wrong('there is no pipeline in it: add one, such as orders = Pipeline("orders")')
    choices = " or ".join(f"{location}:{name}" for name in known)
    raise target.wrong(f"there are {len(known)} pipelines in it: say which, {choices}")


def _named(target: _Target, names: Mapping[str, Any]) -> Pipeline:
    value = names.get(target.pipeline)
    if isinstance(value, Pipeline):
        return value
    known = ", ".join(name for name, other in names.items() if isinstance(other, Pipeline)) or "none"
    if target.pipeline in names:
        raise target.wrong(
            f"{target.pipeline} is no pipeline but of type {type(value).__name__}; pipelines in it: {known}"
        )
    raise target.wrong(f"there is no {target.pipeline!r} in it; pipelines in it: {known}")
