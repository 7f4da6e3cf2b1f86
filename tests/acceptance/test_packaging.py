"""What is built is complete, and it is all that is installed.

One sdist and two wheels are built, one from the tree and one from the sdist. The latter is installed beside this
environment's other packages, where it must work without the repository.
"""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from ..child_process import run_program

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEM = f"{PROJECT['name']}-{PROJECT['version']}"
PACKAGED = (".py", ".sql", ".typed")
FOLDERS = ("actors", "cluster", "events", "gateway")
HOOK = "hatch_build.py"
ADVICE = "run `git config core.symlinks true`, then check out again"


class Built(NamedTuple):
    """The three archives."""

    sdist: Path
    wheel: Path
    wheel_from_sdist: Path


def _run(*command: str | Path, cwd: Path) -> str:
    done = run_program(command, cwd=cwd, timeout=300)
    assert done.returncode == 0, f"{command[0]} said:\n{done.stdout}{done.stderr}"
    return done.stdout


def _build(source: Path, into: Path, *formats: str) -> Path:
    _run(sys.executable, "-m", "build", "--no-isolation", *formats, "--outdir", into, source, cwd=into.parent)
    (archive,) = into.iterdir()
    return archive


def _sources() -> set[str]:
    """Every file that has to be in the package, as its path below `ensue/`."""
    inside = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in PACKAGED)
    tops = (path for path in ROOT.iterdir() if path.is_file() and path.suffix in PACKAGED and path.name != HOOK)
    return {path.relative_to(ROOT).as_posix() for path in (*inside, *tops)}


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    sdist = _build(ROOT, folder / "sdist", "--sdist")
    wheel = _build(ROOT, folder / "wheel", "--wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return Built(sdist, wheel, _build(folder / STEM, folder / "again", "--wheel"))


@pytest.fixture(scope="module")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel, and this environment's packages without its link to the repository.

    A path file adds the other folder as it is; path files in there, such as the editable install's, are not followed.
    """
    home = tmp_path_factory.mktemp("home") / "venv"
    _run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home.parent)
    python = home / "bin" / "python"
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet", "install")
    _run(*pip, "--no-deps", "--no-index", built.wheel_from_sdist, cwd=home)
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_every_module_and_nothing_beside_the_package(built: Built) -> None:
    names = set(_contents(built.wheel))
    assert {name.split("/")[0] for name in names} == {"ensue", f"{STEM}.dist-info"}
    inside = {name.removeprefix("ensue/") for name in names if name.startswith("ensue/")}
    assert {name for name in inside if name.endswith(PACKAGED)} == _sources()
    assert [name for name in inside if "__pycache__" in name] == []


def test_the_wheel_carries_its_license_and_its_command(built: Built) -> None:
    contents = _contents(built.wheel)
    assert contents[f"{STEM}.dist-info/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"ensue = ensue.gateway.cli.main:main" in contents[f"{STEM}.dist-info/entry_points.txt"]


def test_the_sdist_holds_the_modules_the_tests_and_what_builds_them(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.removeprefix(f"{STEM}/") for name in archive.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    wanted = _sources() | tests | {HOOK, "pyproject.toml", "README.md", "LICENSE", "PKG-INFO"}
    assert wanted - names == set()


def test_a_wheel_from_the_sdist_is_the_wheel_from_the_tree(built: Built) -> None:
    assert _contents(built.wheel_from_sdist) == _contents(built.wheel)


def test_the_installed_package_works_without_the_repository(python: Path, tmp_path: Path) -> None:
    program = "import ensue, ensue.testing; print(ensue.__version__, ensue.__file__)"
    version, file = _run(python, "-I", "-c", program, cwd=tmp_path).split(maxsplit=1)
    assert version == PROJECT["version"]
    assert Path(file.strip()).is_relative_to(python.parent.parent)


def test_the_installed_command_answers(python: Path, tmp_path: Path) -> None:
    assert "Usage" in _run(python.with_name("ensue"), "--help", cwd=tmp_path)


@pytest.mark.parametrize("module", [*FOLDERS, "testing"])
def test_a_bare_import_reaches_no_module_of_the_package(python: Path, tmp_path: Path, module: str) -> None:
    program = f"import importlib.util; print(importlib.util.find_spec({module!r}))"
    assert _run(python, "-I", "-c", program, cwd=tmp_path).strip() == "None"


@pytest.mark.parametrize("module", FOLDERS)
def test_neither_does_it_in_an_editable_install(tmp_path: Path, module: str) -> None:
    program = f"import importlib.util; print(importlib.util.find_spec({module!r}))"
    assert _run(sys.executable, "-I", "-c", program, cwd=tmp_path).strip() == "None"


def _checkout(folder: Path, *, links: bool) -> Path:
    """A copy of this checkout; without links, as git leaves it under core.symlinks=false."""
    shutil.copytree(ROOT / "src", folder / "src", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FOLDERS, "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "testing.py", "py.typed", "pyproject.toml", "README.md", "LICENSE", HOOK):
        shutil.copy(ROOT / name, folder / name)
    for link in () if links else sorted((folder / "src" / "ensue").iterdir()):
        target = link.readlink()
        link.unlink()
        link.write_text(target.as_posix())
    return folder


def _install_editable(python: Path, checkout: Path) -> subprocess.CompletedProcess[str]:
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet", "install")
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--editable")
    return run_program([*pip, *options, checkout], timeout=300)


@pytest.mark.skipif(not (ROOT / "src").exists(), reason="only a checkout has links")
def test_an_editable_install_without_symbolic_links_is_refused_in_one_line(python: Path, tmp_path: Path) -> None:
    refused = _install_editable(python, _checkout(tmp_path, links=False))
    assert refused.returncode != 0
    assert f"ensue: src/ensue/__init__.py is a file instead of a symbolic link: {ADVICE}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.skipif(not (ROOT / "src").exists(), reason="only a checkout has links")
def test_a_checkout_with_symbolic_links_builds_an_editable_install(tmp_path: Path) -> None:
    program = "import hatchling.build; print(hatchling.build.build_editable('out'))"
    assert f"{STEM}-" in _run(sys.executable, "-c", program, cwd=_checkout(tmp_path, links=True))


@pytest.mark.skipif(not (ROOT / "src").exists(), reason="only a checkout has links")
def test_the_tests_do_not_start_without_symbolic_links(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "tests/unit", "-n", "0", "-p", "no:cacheprovider"]
    done = run_program(command, cwd=_checkout(tmp_path, links=False))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line == f"ERROR: src/ensue/__init__.py is a file instead of a symbolic link: {ADVICE}"
