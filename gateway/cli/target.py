"""The argument TARGET: the pipeline that it names.

Rules: a TARGET is `module:pipeline`, `path/to/file.py` or `path/to/file.py:pipeline`; the name may be omitted if there
is one pipeline. A file is imported by its own name, with its folder first on the import path (for a file in a package:
the folder that contains the package), so that the workers, which get the same path, import it by the same name. A file
whose module name is taken is refused, because a worker would run the wrong code. Every error is a `TargetInvalid` of
one line that names the TARGET and says what to do; an invalid declaration stays a `PipelineInvalid`, so that `ensue
check` can report it as a finding.
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
    """A parsed TARGET."""

    text: str
    module: str
    """The name of the module to import."""
    pipeline: str
    """The name of the pipeline in the module, or an empty text."""
    file: Path | None = None
    """The file, if the TARGET names one."""

    def error(self, message: str) -> TargetInvalid:
        """The error for this target."""
        return TargetInvalid(f"TARGET {self.text}: {message}")


def load(text: str) -> Pipeline:
    """The pipeline of a TARGET. Raises `TargetInvalid`, or `PipelineInvalid` if its declaration is invalid."""
    target = _read(text)
    if target.file is None:
        _prepend_to_path(str(Path.cwd()))
    else:
        _refuse_taken_name(target, target.file)
        _prepend_to_path(str(_import_folder(target.file)))
    return _choose(target, _import(target))


def _read(text: str) -> _Target:
    location, _, name = text.partition(":")
    if os.sep in location or location.endswith(".py") or location in {".", ".."}:
        return _read_file(text, location, name)
    if not location or not all(part.isidentifier() for part in location.split(".")):
        raise TargetInvalid(f"TARGET {text!r} names no pipeline: write module:pipeline or path/to/file.py")
    return _Target(text, location, name)


def _read_file(text: str, location: str, name: str) -> _Target:
    file = Path(os.path.normpath(Path(location).expanduser().absolute()))
    target = _Target(text, "", name, file)
    if file.is_dir():
        raise target.error("it is a folder: name a file in it, such as " + str(Path(location) / "pipeline.py"))
    if not file.exists():
        raise target.error("no such file" + (f" in {Path.cwd()}" if not Path(location).is_absolute() else ""))
    if file.suffix != ".py":
        raise target.error("not a Python file: the name must end in .py")
    if "." in file.stem:
        raise target.error(f"a module name must not contain a dot: rename {file.name}")
    return _Target(text, _module_name(file), name, file)


def _package(file: Path) -> list[Path]:
    """The folders of the package that contains a file, outermost first; none if it is in no package."""
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


def _refuse_taken_name(target: _Target, file: Path) -> None:
    """Refuse a file whose module name is taken: the workers would import the other module."""
    if target.module in sys.stdlib_module_names:
        raise target.error(f"Python itself has a module named {target.module!r}: rename the file")
    present = sys.modules.get(target.module)
    where = getattr(present, "__file__", None)
    if present is not None and (where is None or not Path(where).samefile(file)):
        raise target.error(f"a module named {target.module!r} is already loaded from {where}: rename one of the two")


def _prepend_to_path(folder: str) -> None:
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
            raise target.error(
                f"there is no module {error.name!r} in {Path.cwd()} or on the import path: correct the name"
            ) from error
        raise _not_importable(target, error) from error
    except (Exception, SystemExit) as error:
        raise _not_importable(target, error) from error


def _not_importable(target: _Target, error: BaseException) -> TargetInvalid:
    kind, _, message = " ".join(traceback.format_exception_only(error)[-1].split()).partition(": ")
    text = f"{kind}: {message}" if message else kind
    return target.error(f"the import failed: {_place(error, target)}: {text[:300]}")


def _place(error: BaseException, target: _Target) -> str:
    """The place in the user's code where an error was raised, as file:line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    user_frames = [frame for frame in frames if not _is_library(frame.filename)]
    if user_frames:
        return f"{_shown(user_frames[-1].filename)}:{user_frames[-1].lineno}"
    return _shown(str(target.file)) if target.file else target.module


def _is_library(filename: str) -> bool:
    """Whether a file belongs to ensue, to Python or to an installed package."""
    root = str(Path(__file__).resolve().parents[2])
    resolved = str(Path(filename).resolve())
    is_ours = any(resolved.startswith(f"{root}{os.sep}{part}{os.sep}") for part in _OUR_FOLDERS)
    return is_ours or filename.startswith(("<", _STDLIB)) or "site-packages" in filename


_OUR_FOLDERS = ("events", "cluster", "actors", "gateway")
_STDLIB = str(Path(os.__file__).parent)


def _shown(filename: str) -> str:
    """A path, relative to the working folder if it is inside."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


def _choose(target: _Target, module: ModuleType) -> Pipeline:
    names: dict[str, Any] = vars(module)
    if target.pipeline:
        return _named(target, names)
    names_by_id = {id(value): name for name, value in reversed(names.items()) if isinstance(value, Pipeline)}
    known = [name for name in names if name in names_by_id.values()]
    if len(known) == 1:
        pipeline: Pipeline = names[known[0]]
        return pipeline
    location = target.text.partition(":")[0]
    if not known:
        raise target.error('it has no pipeline: add one, such as orders = Pipeline("orders")')
    choices = " or ".join(f"{location}:{name}" for name in known)
    raise target.error(f"it has {len(known)} pipelines: name one, {choices}")


def _named(target: _Target, names: Mapping[str, Any]) -> Pipeline:
    value = names.get(target.pipeline)
    if isinstance(value, Pipeline):
        return value
    known = ", ".join(name for name, other in names.items() if isinstance(other, Pipeline)) or "none"
    if target.pipeline in names:
        raise target.error(f"{target.pipeline} is a {type(value).__name__}, not a pipeline; pipelines in it: {known}")
    raise target.error(f"it has no pipeline {target.pipeline!r}; pipelines in it: {known}")
