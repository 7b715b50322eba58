"""What an import brings along. Modules are counted, not seconds, which depend on the machine."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
import typing
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import monai_zsad
from monai_zsad import backbones
from tests.data.samples import write_nifti, write_series

HEAVY = {
    "highdicom",
    "huggingface_hub",
    "ignite",
    "itk",
    "matplotlib",
    "monai",
    "nibabel",
    "numpy",
    "open_clip",
    "pydicom",
    "safetensors",
    "scipy",
    "skimage",
    "timm",
    "torch",
}


def modules_after(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after ``code``."""
    program = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import monai_zsad",
        "import monai_zsad.errors, monai_zsad.backbones, monai_zsad.prompts, monai_zsad.workflow",
        "import monai_zsad.backbones.weights; monai_zsad.backbones.weights.list_entries()",
        "import monai_zsad.cli.main",
    ],
)
def test_nothing_heavy_is_imported(code: str):
    loaded = modules_after(code)
    assert "monai_zsad" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(("kind", "unused"), [("nifti", {"itk"}), ("dicom", {"itk", "nibabel"}), ("png", {"nibabel"})])
def test_a_look_at_headers_needs_neither_torch_nor_monai(tmp_path: Path, kind: str, unused: set[str]):
    if kind == "nifti":
        write_nifti(tmp_path / "a.nii.gz")
    elif kind == "dicom":
        write_series(tmp_path, 3)
    else:
        Image.fromarray(np.arange(90, dtype="u1").reshape(9, 10)).save(tmp_path / "a.png")
    loaded = modules_after(f"""
from monai_zsad.cli.main import main
try:
    main(["info", {str(tmp_path)!r}])
except SystemExit as end:
    assert end.code == 0
""")
    assert "numpy" in loaded
    assert loaded & {"torch", "monai", "ignite", "highdicom", "matplotlib", "open_clip", *unused} == set()


@pytest.mark.parametrize("package", ["data", "metrics", "networks", "transforms", "writers"])
def test_names_of_a_lazy_room_are_found(package: str):
    room = importlib.import_module(f"monai_zsad.{package}")
    assert set(room.__all__) <= set(dir(room))
    for name in room.__all__:
        assert getattr(room, name) is not None
    assert modules_after(f"import monai_zsad.{package}") & HEAVY == set()


def test_the_check_can_fail():
    assert "numpy" in modules_after("import numpy") & HEAVY


def test_names_of_the_backbones_are_found_on_first_use():
    namespace: dict[str, object] = {}
    exec("from monai_zsad.backbones import *", namespace)
    assert set(backbones.__all__) <= namespace.keys()
    assert set(backbones.__all__) <= set(dir(backbones))
    for name in backbones.__all__:
        assert namespace[name] is getattr(backbones, name)
    assert backbones.CLIPBackbone is sys.modules["monai_zsad.backbones.clip"].CLIPBackbone
    assert "qq+kk+vv" in typing.get_args(backbones.AttentionKind)


def test_modules_of_the_backbones_are_attributes():
    modules = {module.name for module in pkgutil.iter_modules(backbones.__path__)}
    assert modules <= set(dir(backbones))
    for name in modules:
        assert getattr(backbones, name) is sys.modules[f"monai_zsad.backbones.{name}"]


@pytest.mark.parametrize("package", [monai_zsad, backbones])
def test_unknown_names_are_refused(package: ModuleType):
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018  # the access is the test
    with pytest.raises(ImportError, match="nothing"):
        exec(f"from {package.__name__} import nothing", {})


def test_screen_and_the_rooms_are_names_of_the_package():
    rooms = {module.name for module in pkgutil.iter_modules(monai_zsad.__path__) if module.ispkg}
    assert rooms | {"screen"} <= set(dir(monai_zsad))
    for name in rooms:
        assert getattr(monai_zsad, name) is sys.modules[f"monai_zsad.{name}"]
    assert monai_zsad.screen is sys.modules["monai_zsad.workflow.python.screener"].screen
