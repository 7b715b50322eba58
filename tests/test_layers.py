"""Imports go down only: which room may import which. The rules inside the rooms are in ``test_house.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

import monai_zsad
from tests.source_imports import imports, modules

PACKAGE = Path(monai_zsad.__file__).parent
LEVELS = (
    {"prompts", "bundles"},
    {"backbones"},
    {"networks"},
    {"transforms", "inferers", "losses", "metrics", "data", "synthesis", "writers"},
    {"distributed", "mutual"},
    {"workflow"},
    {"training", "evaluation", "integrations"},
    {"cli"},
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# Modules beside the rooms, for all of them.
FOR_ALL = {"_version", "deprecated", "dicom_log", "dicom_numbers", "errors", "flags", "result_files"}
WITHOUT_NETWORKS = {"transforms", "metrics", "data", "synthesis", "writers"}
NETWORKS = {"backbones", "networks"}
# Packages with one home.
HOME = {"open_clip": "backbones"}


def violations(package: Path) -> list[str]:
    """``file:line: what is wrong`` for every import of ``package`` that breaks a rule."""
    return [
        f"{file.relative_to(package.parent).as_posix()}:{line}: {reason}"
        for file, module in modules(package)
        for line, target in imports(file, module)
        if (reason := fault(module, target))
    ]


def fault(module: tuple[str, ...], target: tuple[str, ...]) -> str | None:
    """Why ``module`` may not import ``target``; ``None`` if it may."""
    package, room = module[0], module[1]
    name = ".".join(target)
    if target[0] != package:
        home = HOME.get(target[0])
        return f"{name} is imported in {home} only" if home not in (None, room) else None
    if len(target) == 1:
        return None if len(module) == 2 else f"a room imports what it needs by name, not {package} as a whole"
    wanted = target[1]
    if wanted in FOR_ALL or wanted == "__version__":
        return None
    if wanted not in LEVEL_OF:
        return f"{wanted} has no level in this test"
    if len(module) == 2:
        # The program and the package's lazy names stand above all rooms; what every room may import stands below them.
        return None if room in ("__main__", "__init__") else f"{room} imports no room, but imports {name}"
    if room not in LEVEL_OF:
        return f"{room} has no level in this test"
    if wanted == room:
        return None
    if room in WITHOUT_NETWORKS and wanted in NETWORKS:
        return f"{room} imports no network, but imports {name}"
    if LEVEL_OF[wanted] >= LEVEL_OF[room]:
        return f"{room} imports {name}, which is not below it"
    return None


def test_imports_go_down_only():
    found = violations(PACKAGE)
    assert not found, "imports against the rules of the rooms:\n" + "\n".join(found)


def test_every_room_is_seen():
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert rooms <= LEVEL_OF.keys(), "a new room needs a level in this test"
    seen = {
        (module[1], target[1])
        for file, module in modules(PACKAGE)
        for _, target in imports(file, module)
        if target[0] == "monai_zsad" and len(target) > 1
    }
    assert {("networks", "backbones"), ("networks", "prompts"), ("workflow", "networks")} <= seen


PLANTED = {
    # Allowed.
    "networks/fine.py": "from pkg.backbones import clip\nimport torch\nfrom pkg.errors import X\nfrom . import crane\n",
    "cli/fine.py": "def f():\n    from pkg import networks, writers\n    import pkg.data.reader\n",
    "inferers/fine.py": "from pkg.networks import Crane\nfrom pkg._version import x\nfrom pkg import errors\n",
    "backbones/fine.py": "import open_clip.model\nfrom .clip import CLIP\n",
    "__main__.py": "from pkg.cli.main import main\n",
    "__init__.py": "if TYPE_CHECKING:\n    from pkg.workflow import screen\n",
    "workflow/__init__.pyi": "from .screener import screen\n",
    # Not allowed.
    "backbones/up.py": "import os\nfrom pkg.networks.crane import Crane\n",
    "prompts/lazy.py": "def f():\n    if True:\n        import pkg.cli.main\n",
    "metrics/__init__.pyi": "from ..losses import x\n",
    "transforms/beside.py": "from pkg.data import reader\n",
    "writers/network.py": "from __future__ import annotations\n\nfrom pkg.networks import (\n    Crane,\n)\n",
    "metrics/backbone.py": "def f():\n    from pkg.backbones import CLIP\n",
    "data/relative.py": "from .. import losses\nfrom ..writers.files import atomic_path\n",
    "losses/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.workflow import bundles\n",
    "inferers/named.py": "import torch\nx = importlib.import_module('pkg.cli')\ny = optional_import('open_clip')\n",
    "networks/foreign.py": "def f():\n    from open_clip import tokenizer\n",
    "networks/whole.py": "import pkg\n",
    "attic/new.py": "from pkg.prompts import learned\n",
    "networks/attic.py": "from pkg.attic import new\n",
    "errors.py": "from pkg.prompts import learned\n",
}
EXPECTED = [
    "pkg/attic/new.py:1: attic has no level",
    "pkg/backbones/up.py:2: backbones imports pkg.networks.crane.Crane, which is not below it",
    "pkg/data/relative.py:1: data imports pkg.losses, which is not below it",
    "pkg/data/relative.py:2: data imports pkg.writers.files.atomic_path, which is not below it",
    "pkg/errors.py:1: errors imports no room",
    "pkg/inferers/named.py:2: inferers imports pkg.cli, which is not below it",
    "pkg/inferers/named.py:3: open_clip is imported in backbones only",
    "pkg/losses/typed.py:3: losses imports pkg.workflow.bundles, which is not below it",
    "pkg/metrics/__init__.pyi:1: metrics imports pkg.losses.x, which is not below it",
    "pkg/metrics/backbone.py:2: metrics imports no network, but imports pkg.backbones.CLIP",
    "pkg/networks/attic.py:1: attic has no level",
    "pkg/networks/foreign.py:2: open_clip.tokenizer is imported in backbones only",
    "pkg/networks/whole.py:1: a room imports what it needs by name, not pkg as a whole",
    "pkg/prompts/lazy.py:3: prompts imports pkg.cli.main, which is not below it",
    "pkg/transforms/beside.py:1: transforms imports pkg.data.reader, which is not below it",
    "pkg/writers/network.py:3: writers imports no network, but imports pkg.networks.Crane",
]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    package = tmp_path / "pkg"
    for name, text in PLANTED.items():
        file = package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return package


def test_the_test_finds_what_was_planted(planted: Path):
    found = violations(planted)
    assert len(found) == len(EXPECTED), "\n".join(found)
    for line, expected in zip(found, EXPECTED, strict=True):
        assert line.startswith(expected)
