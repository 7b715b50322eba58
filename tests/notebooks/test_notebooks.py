"""The notebooks: both forms agree, outputs are small and name no folder of a machine, and each notebook runs."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

jupytext = pytest.importorskip("jupytext", reason="the notebooks' tests need jupytext")
nbformat = pytest.importorskip("nbformat", reason="the notebooks' tests need nbformat")

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
MAX_LINES = 100
MAX_BYTES = 400_000
# A folder of a machine; not web addresses, and not devices that every machine has.
MACHINE = re.compile(r"(?<![\w.:/<>])/(?:work|home|root|Users|tmp|var|opt|mnt|usr|data|private)/|[A-Za-z]:\\\\?Users")

SMALL = {"shape": (64, 64, 12), "spacing": (3.6, 3.6, 13.0)}
REDUCED: dict[str, dict[str, Any]] = {
    "01_quick_start": SMALL,
    "02_prompts": SMALL,
    "03_methods": SMALL | {"image_size": 56},
    "04_own_data": SMALL | {"counts": {"own": 2, "masks": 4, "reference": 2, "test": 2}, "steps": 2, "epochs": 1},
    "05_dicom": SMALL,
    "06_cohort": SMALL | {"visibility": (1.0, 0.5), "normals": 2},
}
NAMES = sorted(REDUCED)


@pytest.fixture(scope="module")
def execute() -> ModuleType:
    """The script that runs the notebooks."""
    pytest.importorskip("nbclient", reason="running notebooks needs nbclient and ipykernel")
    spec = importlib.util.spec_from_file_location("notebooks_execute", FOLDER / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, "PNG")
    return stream.getvalue()


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(output: Any) -> list[str]:
    """The text of an output."""
    if output.output_type == "stream":
        return [output.text]
    return [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]


def test_every_notebook_is_known() -> None:
    stems = {form: sorted(file.stem for file in FOLDER.glob(f"[0-9]*{form}")) for form in (".py", ".ipynb")}
    assert stems == {".py": NAMES, ".ipynb": NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_agree(name: str) -> None:
    source, notebook = jupytext.read(FOLDER / f"{name}.py"), read(name)
    assert [(c.cell_type, c.source) for c in source.cells] == [(c.cell_type, c.source) for c in notebook.cells]
    assert notebook.metadata.jupytext.formats == "ipynb,py:percent"


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_there_and_small(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MAX_BYTES
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run from top to bottom"
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs) >= 2
    for cell in cells:
        lines = sum(text.count("\n") + 1 for output in cell.outputs for text in texts(output))
        assert lines < MAX_LINES, cell.source


@pytest.mark.parametrize("name", NAMES)
def test_no_folder_of_a_machine(name: str) -> None:
    notebook = read(name)
    written = [cell.source for cell in notebook.cells]
    written += [text for cell in code_cells(notebook) for output in cell.outputs for text in texts(output)]
    assert not [text for text in written if MACHINE.search(text)]


def test_folders_of_a_machine_are_found() -> None:
    assert MACHINE.search("saved to /tmp/abc/scan.nii.gz")
    assert MACHINE.search("/home/anna/scan.nii.gz")
    assert not MACHINE.search("http://localhost:8042/data/ <site-packages>/usr/x results/tmp/a > /dev/null")


@pytest.mark.parametrize("name", NAMES)
def test_conventions(name: str) -> None:
    notebook = read(name)
    assert notebook.cells[0].source.startswith("# "), "starts with its title"
    licence, versions = notebook.cells[-2:]
    assert licence.source.startswith("## Versions and licence\n")
    assert "Apache License, Version 2.0" in licence.source
    assert versions.source.endswith("print_config()")
    assert sum("print_config()" in cell.source for cell in code_cells(notebook)) == 1
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "For research only" in " ".join(prose.split())
    assert "pip install" in code_cells(notebook)[0].source
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1


def test_the_first_notebook_starts_with_the_result() -> None:
    cells = code_cells(read("01_quick_start"))
    first = next(number for number, cell in enumerate(cells) if "screen(" in cell.source)
    lines = [line for cell in cells[: first + 1] for line in cell.source.splitlines() if line and line[0] != "#"]
    assert len(lines) <= 10
    assert cells[first].source.endswith("result.show()")
    assert any(kind.startswith("image/") for output in cells[first].outputs for kind in output.get("data", {}))


@pytest.mark.parametrize("name", NAMES)
def test_figures_can_be_read(name: str) -> None:
    """At least 120 dots per inch, and no text below 10 points."""
    source = "\n".join(cell.source for cell in code_cells(read(name)))
    dpi = [int(value) for value in re.findall(r"""(?:set_dpi\(|figure\.dpi"\] = )(\d+)""", source)]
    assert dpi
    assert min(dpi) >= 120
    assert [size for size in re.findall(r"(?:fontsize|labelsize)=(\d+)", source) if int(size) < 10] == []


@pytest.mark.parametrize("name", NAMES)
def test_reduced_settings_are_parameters(name: str, execute: ModuleType) -> None:
    notebook = execute.with_parameters(execute.read(FOLDER / f"{name}.py"), REDUCED[name])
    assert len(notebook.cells) == len(execute.read(FOLDER / f"{name}.py").cells) + 1
    with pytest.raises(ValueError, match="no parameter of this notebook"):
        execute.with_parameters(notebook, {"colour": "red"})


def test_changed_text_keeps_outputs_and_changed_code_does_not(execute: ModuleType) -> None:
    source = execute.read(FOLDER / "01_quick_start.py")
    earlier = read("01_quick_start")
    source.cells[0].source = "# Other words"
    assert execute.with_outputs(source, earlier).cells[-1].execution_count == earlier.cells[-1].execution_count
    code_cells(source)[0].source += "\n1 + 1"
    with pytest.raises(ValueError, match="the code was changed"):
        execute.with_outputs(source, earlier)


def test_a_viewer_is_stored_as_a_still_image(execute: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def output(page: str) -> Any:
        return nbformat.v4.new_output("display_data", {"text/html": page, "text/plain": "a viewer"})

    black = base64.b64encode(png((8, 8))).decode()
    monkeypatch.setattr(execute, "_still", lambda page: black)
    assert execute._clean(output("<table>\n  <tr>\n</table>")).data["text/html"] == "<table> <tr> </table>"
    stored = execute._clean(output("x" * 10**6)).data
    assert set(stored) & {"image/png", "image/jpeg"}
    assert "text/html" not in stored
    monkeypatch.setattr(execute, "_still", lambda page: None)
    assert set(execute._clean(output("x" * 10**6)).data) == {"text/plain"}


@pytest.mark.slow
def test_a_page_is_drawn_as_an_image(execute: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "_SECONDS_TO_DRAW", 0.5)
    page = "<div style='background: rgb(200, 30, 30); width: 300px; height: 100px'></div>"
    still = execute._still(page)
    if still is None:
        pytest.skip("chromium or playwright is not installed")
    with Image.open(io.BytesIO(base64.b64decode(still))) as image:
        assert image.size == (300, 100)
        assert image.convert("RGB").getpixel((150, 50)) == (200, 30, 30)


def test_outputs_lose_folders_of_the_machine(execute: ModuleType) -> None:
    text = execute._without_folders(f"{FOLDER.parent}/bundles and {Path.home()}/x and plain words")
    assert text.endswith("/x and plain words")
    assert str(FOLDER.parent) not in text
    assert f"{Path.home()}/" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_runs(name: str, execute: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONAI_DATA_DIRECTORY", raising=False)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    # Chromium's sockets do not fit into the long path above; the test of a drawn page is its own.
    monkeypatch.setattr(execute, "_still", lambda page: None)
    notebook = execute.with_parameters(execute.read(FOLDER / f"{name}.py"), REDUCED[name])
    done = execute.run(notebook, tmp_path)
    outputs = [output for cell in code_cells(done) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) or "image/jpeg" in output.get("data", {}) for output in outputs)
    # The notebook has removed its files.
    assert not [file for file in temporary.rglob("*.nii.gz")]
