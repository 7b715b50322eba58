"""Rules inside the rooms: no circular imports, no long modules, no slivers, few entries in a folder."""

from __future__ import annotations

import graphlib
from pathlib import Path

import pytest

import monai_zsad
from tests.source_imports import Module, imports, modules

PACKAGE = Path(monai_zsad.__file__).parent
MOST_LINES = 300
SLIVER_LINES = 60
MOST_ENTRIES = 14
# Short modules that stand alone although at most one module imports them, each with the reason.
SLIVERS = {
    "integrations.deploy.conftest": "pytest reads it by this name",
    "integrations.monailabel.adapter.conftest": "pytest reads it by this name",
    "networks.adaptation.products": "an approximation of its own, with its own tests",
    "integrations.monailabel.adapter.main": "MONAI Label looks for an app in a file of this name",
}
# Folders that hold more entries, each with the reason.
FULL_FOLDERS: dict[str, str] = {}


def graph(package: Path) -> dict[Module, set[Module]]:
    """Modules of the package, and the modules that each imports.

    A package's ``__init__`` is the package itself. The root is left out: its names are lazy, and every room may ask it
    for the version.
    """
    known = {_node(module) for _, module in modules(package)}
    edges: dict[Module, set[Module]] = {node: set() for node in known if len(node) > 1}
    for file, module in modules(package):
        if len(node := _node(module)) == 1:
            continue
        for _, target in imports(file, module):
            while target and target not in known:
                target = target[:-1]
            if len(target) > 1 and target != node:
                edges[node].add(target)
    return edges


def _node(module: Module) -> Module:
    return module[:-1] if module[-1] == "__init__" else module


def circles(package: Path) -> list[str]:
    """Circles of imports; each is found once, as the names along it."""
    edges = graph(package)
    found = []
    while circle := _circle(edges):
        found.append(" <- ".join(".".join(node[1:]) for node in circle))
        edges[circle[1]].discard(circle[0])
    return found


def _circle(edges: dict[Module, set[Module]]) -> list[Module]:
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def long_modules(package: Path) -> list[str]:
    return [
        f"{name}: {lines} lines"
        for file, module in modules(package)
        if (lines := _lines(file)) > MOST_LINES
        for name in [".".join(module[1:])]
    ]


def slivers(package: Path, reasons: dict[str, str]) -> list[str]:
    """Short modules with at most one importer that no ``__init__`` makes public."""
    edges = graph(package)
    packages = {module[:-1] for _, module in modules(package) if module[-1] == "__init__"}
    found = []
    for file, module in modules(package):
        name = ".".join(module[1:])
        if module[-1].startswith("__") or len(module) == 2 or _lines(file) >= SLIVER_LINES or name in reasons:
            continue
        importers = {node for node, targets in edges.items() if module in targets}
        if len(importers) <= 1 and not importers & packages:
            found.append(f"{name}: {_lines(file)} lines, imported by {_names(importers)}")
    return found


def full_folders(package: Path, reasons: dict[str, str]) -> list[str]:
    found = []
    for folder in sorted(path for path in package.rglob("*") if path.is_dir()):
        name = folder.relative_to(package).as_posix()
        entries = [path for path in folder.iterdir() if not path.name.startswith("__")]
        if "__pycache__" not in folder.parts and len(entries) > MOST_ENTRIES and name not in reasons:
            found.append(f"{name}: {len(entries)} entries")
    return found


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def _names(nodes: set[Module]) -> str:
    return ", ".join(sorted(".".join(node[1:]) for node in nodes)) or "none"


def test_modules_do_not_import_each_other_in_circles():
    assert not (found := circles(PACKAGE)), "\n".join(found)


def test_modules_are_short():
    assert not (found := long_modules(PACKAGE)), "\n".join(found)


def test_modules_are_not_slivers():
    assert not (found := slivers(PACKAGE, SLIVERS)), "\n".join(found)


def test_folders_have_few_entries():
    assert not (found := full_folders(PACKAGE, FULL_FOLDERS)), "\n".join(found)


def test_exceptions_are_still_needed():
    assert set(SLIVERS) <= {line.split(":")[0] for line in slivers(PACKAGE, {})}
    assert set(FULL_FOLDERS) <= {line.split(":")[0] for line in full_folders(PACKAGE, {})}


LONG = "x = 1\n" * (MOST_LINES + 1)
FILLED = "x = 1\n" * SLIVER_LINES
PLANTED = {
    "__init__.py": "from pkg.one import first\n",
    "one/__init__.py": "",
    "one/__init__.pyi": "from .public import name\n",
    "one/first.py": FILLED + "def f():\n    from pkg.one.second import x\n",
    "one/second.py": FILLED + "from pkg.one import third\n",
    "one/third.py": FILLED + "if TYPE_CHECKING:\n    from .first import x\n",
    "one/public.py": "name = 1\n",
    "one/used.py": "x = 1\n",
    "two/__init__.py": "",
    "two/long.py": LONG + "from pkg.one.used import x\nfrom pkg.two.sliver import y\n",
    "two/full.py": "x = 1\n" * MOST_LINES + "",
    "two/other.py": FILLED + "from pkg.one import used, name\nfrom pkg import __version__\n",
    "two/own.py": FILLED + "from pkg.two import name\n",
    "two/__init__.pyi": "from .own import name\n",
    "two/sliver.py": "y = 1\n",
    "two/alone.py": "z = 1\n",
    "two/listed.py": "z = 1\n",
    **{f"full/a{number}.yaml": "" for number in range(MOST_ENTRIES + 1)},
    **{f"listed/a{number}.yaml": "" for number in range(MOST_ENTRIES + 1)},
    **{f"fine/a{number}.yaml": "" for number in range(MOST_ENTRIES)},
}


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    package = tmp_path / "pkg"
    for name, text in PLANTED.items():
        file = package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return package


def test_planted_circles_are_found(planted: Path):
    found = [set(circle.split(" <- ")) for circle in circles(planted)]
    assert sorted(found, key=len) == [{"two", "two.own"}, {"one.first", "one.second", "one.third"}]


def test_planted_modules_are_found(planted: Path):
    assert [line.split(":")[0] for line in long_modules(planted)] == ["two.long"]
    assert slivers(planted, {"two.listed": "a reason"}) == [
        "two.alone: 1 lines, imported by none",
        "two.sliver: 1 lines, imported by two.long",
    ]
    assert [line.split(":")[0] for line in full_folders(planted, {"listed": "a reason"})] == ["full"]
