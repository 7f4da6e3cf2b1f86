"""The structure of the tree: folders, imports, names and sizes.

Rules that no single file can hold: which folder may import which, what the pure core may touch, and the three places
that a new top-level module is listed in. import-linter checks the imports too; these tests name the line.
"""

import ast
import os
import re
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .child_process import run_program

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("events", "cluster", "actors", "gateway")  # from the bottom up: each may know those before it
LONGEST_FILE = 400
MOST_MODULES = 20  # of one folder
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PACKAGES = sorted({path.parent for path in SOURCES})
FACES = [ROOT / "__init__.py", ROOT / "testing.py"]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

# An sdist holds this file too, but neither the links nor the lock files.
pytestmark = pytest.mark.skipif(not (ROOT / "src").exists(), reason="only a checkout has the whole tree")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tracked() -> list[Path]:
    """Every file that belongs to the project; from an sdist, which has no git, every file."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = run_program(command, cwd=ROOT, check=True).stdout.split("\0")
        paths = [ROOT / name for name in names if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not re.search(r"/[.]", f"/{_name(path)}")]
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Each import of a file as (line, absolute module); a relative one is resolved from the folder of the file."""
    package = ["ensue", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def _links() -> dict[str, Path]:
    return {link.name: link for link in (ROOT / "src" / "ensue").iterdir() if link.name != "__pycache__"}


def _contract(name: str) -> dict[str, Any]:
    contracts: list[dict[str, Any]] = PROJECT["tool"]["importlinter"]["contracts"]
    return next(contract for contract in contracts if contract["name"] == name)


def _contracts(kind: str) -> list[dict[str, Any]]:
    contracts: list[dict[str, Any]] = PROJECT["tool"]["importlinter"]["contracts"]
    return [contract for contract in contracts if contract["type"] == kind]


def _public_modules() -> set[str]:
    return {_name(path).removesuffix(".py") for path in FACES[1:]} | set(FOLDERS)


def test_the_links_are_relative_and_lead_to_every_top_level_module() -> None:
    links = _links()
    assert set(links) == {"__init__.py", "py.typed", *(_name(path) for path in FACES[1:]), *FOLDERS}
    for name, link in links.items():
        assert os.readlink(link) == f"../../{name}"  # noqa: PTH115 - the text of the link, not what it resolves to


def test_wheel_and_sdist_take_exactly_what_the_links_show() -> None:
    targets = PROJECT["tool"]["hatch"]["build"]["targets"]
    linked = set(_links())
    assert set(targets["wheel"]["only-include"]) == linked
    assert set(targets["sdist"]["only-include"]) == linked | {"tests"}
    assert targets["wheel"]["sources"] == {"": "ensue"}


def test_the_layers_contract_names_every_public_module() -> None:
    layers = _contract("each folder imports downward only")["layers"]
    named = {module.strip() for layer in layers for module in layer.split("|")}
    assert named == {f"ensue.{module}" for module in _public_modules()}


def test_the_type_checkers_and_the_banned_names_cover_every_public_module() -> None:
    tool = PROJECT["tool"]
    on_disk = {"__init__.py", *(_name(path) for path in FACES[1:]), *FOLDERS}
    assert on_disk <= set(tool["pyright"]["include"])
    assert _public_modules() <= set(tool["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"])


@pytest.mark.parametrize("package", PACKAGES, ids=_name)
def test_a_layers_contract_names_every_sub_package(package: Path) -> None:
    inside = {folder.name for folder in PACKAGES if folder.parent == package}
    container = ".".join(["ensue", *package.relative_to(ROOT).parts])
    contracts = [contract for contract in _contracts("layers") if contract.get("containers") == [container]]
    layers = [layer for contract in contracts for layer in contract["layers"]]
    assert inside <= {module.strip() for layer in layers for module in re.split("[|:]", layer)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_layers_contract_of_a_folder_names_its_modules_too(folder: str) -> None:
    (contract,) = (c for c in _contracts("layers") if c.get("containers") == [f"ensue.{folder}"])
    assert contract["exhaustive"] is True  # import-linter checks that a contract names everything in the folder


def test_a_contract_forbids_import_cycles_everywhere() -> None:
    (contract,) = _contracts("acyclic_siblings")
    assert contract["ancestors"] == ["ensue"]


def test_no_class_name_stands_twice_in_the_package() -> None:
    places: dict[str, list[str]] = {}
    for path in (*FACES, *SOURCES):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{_name(path)}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_folder_has_too_many_modules() -> None:
    sizes = Counter(path.parent for path in (*SOURCES, *(ROOT / "benchmarks").rglob("*.py")))
    assert {_name(folder): size for folder, size in sizes.items() if size > MOST_MODULES} == {}


@pytest.mark.parametrize("folder", PACKAGES, ids=_name)
def test_a_package_opens_with_a_sentence_and_defines_nothing(folder: Path) -> None:
    docstring, *rest = ast.parse((folder / "__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(docstring.value, ast.Constant)
    assert re.fullmatch(r"[A-Z`].+[.]", str(docstring.value.value).splitlines()[0]), "write one sentence"
    assert [ast.unparse(node) for node in rest if not _exports(node)] == []


def _exports(node: ast.stmt) -> bool:
    """Whether a statement of a package imports a name, or lists the names that it exports."""
    targets = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
    return isinstance(node, ast.Import | ast.ImportFrom) or targets == ["__all__"]


@pytest.mark.parametrize("path", [*FACES, *SOURCES], ids=_name)
def test_a_module_opens_with_its_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{_name(path)} has no docstring"


def test_events_imports_nothing_that_acts() -> None:
    forbidden = _contract("events decides and never acts")["forbidden_modules"]
    found = [
        f"{_name(path)}:{line} imports {module}"
        for path in SOURCES
        if path.is_relative_to(ROOT / "events")
        for line, module in _imports(path)
        if module.split(".")[0] in forbidden
    ]
    assert not found


def test_no_folder_imports_upward() -> None:
    found: list[str] = []
    for height, folder in enumerate(FOLDERS):
        above = tuple(f"ensue.{name}" for name in (*FOLDERS[height + 1 :], "testing"))
        for path in (ROOT / folder).rglob("*.py"):
            for line, module in _imports(path):
                if module in above or module.startswith(tuple(f"{name}." for name in above)):
                    found.append(f"{_name(path)}:{line} imports {module}")
    assert not found


def test_inside_the_package_imports_are_relative() -> None:
    tops = {"ensue", *_public_modules()}
    found = [
        f"{_name(path)}:{node.lineno}"
        for path in (*FACES, *SOURCES)
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] in tops for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in tops)
    ]
    assert not found


@pytest.mark.parametrize("module", ["ensue", "ensue.testing", "ensue.gateway.cli.main"])
def test_ray_is_loaded_only_when_an_engine_needs_it(module: str) -> None:
    program = f"import {module}, sys; sys.exit('ray' in sys.modules)"
    done = run_program([sys.executable, "-I", "-c", program])
    assert done.returncode == 0, done.stderr or f"import {module} loads ray"


def test_no_file_is_too_long() -> None:
    lengths = {_name(path): len(path.read_text().splitlines()) for path in _tracked() if path.suffix == ".py"}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_lock_files_pin_with_hashes_and_name_no_place_to_load_from() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text, f"{lock.name} holds an address"
        pins = re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)[1:]
        assert pins, f"{lock.name} pins nothing"
        assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []


def test_the_smaller_lock_files_agree_with_the_full_one() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / "requirements" / name).read_text(), flags=re.MULTILINE))

    assert pins("runtime.txt") | pins("build.txt") <= pins("dev.txt")


def test_no_file_names_the_machine_that_it_was_written_on() -> None:
    anyones = {Path(place) for place in ("/", "/home", "/opt", "/srv", "/tmp", "/var/tmp", "/Users")}  # noqa: S108
    places = [re.escape(f"{place}/") for place in {ROOT, ROOT.parent, Path.home()} - anyones]
    homes = r"/(?:home|Users)/[a-z]\w*/"
    registries = r"(?:pypi|pythonhosted|npmjs|deb[.]debian)[.]org"
    pattern = re.compile(rf"(?<![\w./-])(?:{'|'.join([*places, homes])})|{registries}")
    found = [
        f"{_name(path)}:{number}: {hit.group()}"
        for path in _tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if (hit := pattern.search(line))
    ]
    assert not found
