"""Runs the notebooks and keeps their outputs: ``python notebooks/execute.py``, or with names or numbers of some.

The text form (``.py``, jupytext's percent format) is the source; the ``.ipynb`` beside it is made again, with outputs.
Needs jupytext, nbclient and ipykernel; playwright and Chromium for the still images of viewers.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import io
import os
import re
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
# Lines that say nothing of the notebook: notes of libraries, progress bars.
_NOISE = re.compile(r"IProgress not found|nvImageCodec is not|NvImgCodecPydicomReader:|Logging file is set to False|\r")
_LARGEST_PAGE = 100_000  # characters of HTML that are stored; a viewer has millions
_SECONDS_TO_DRAW = 20  # without a graphics card, and on a busy computer
_CHROMIUM = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources() -> list[Path]:
    """Text forms of all notebooks, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def read(source: Path) -> nbformat.NotebookNode:
    """A notebook without outputs from its text form; its cells have the same ids each time."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem[:2]}-{number:02d}"
    notebook.metadata.kernelspec = dict(_KERNEL)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def with_parameters(notebook: nbformat.NotebookNode, values: Mapping[str, Any]) -> nbformat.NotebookNode:
    """A copy with other values after the cell tagged ``parameters``, as papermill does it.

    Raises:
        ValueError: if that cell sets no such name, or there is no such cell.
    """
    changed = nbformat.from_dict(notebook)
    places = [i for i, cell in enumerate(changed.cells) if "parameters" in cell.metadata.get("tags", [])]
    if len(places) != 1:
        raise ValueError(f"{len(places)} cells are tagged parameters: one is needed")
    known = re.findall(r"^(\w+) *=", changed.cells[places[0]].source, re.MULTILINE)
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{', '.join(unknown)}: no parameter of this notebook; it has {', '.join(known)}")
    lines = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    changed.cells.insert(places[0] + 1, nbformat.v4.new_code_cell(lines))
    return changed


def run(notebook: nbformat.NotebookNode, folder: Path, timeout: int = 900) -> nbformat.NotebookNode:
    """Run all cells with this Python in ``folder``; an error in a cell is raised.

    Args:
        notebook: gets the outputs.
        folder: where the kernel runs.
        timeout: seconds for one cell.
    """
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    # The interpreter of this script, not the one that is registered as python3.
    client.km = client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    client.execute(env={**os.environ, "PATH": path, "PYTHONHASHSEED": "0"})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_clean, _joined(cell.outputs)) if output is not None]
    notebook.metadata.kernelspec = dict(_KERNEL)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def _joined(outputs: Sequence[Any]) -> list[Any]:
    """Outputs with neighbouring pieces of one stream put together."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _clean(output: Any) -> Any:
    """The output without the folders of this machine."""
    if output.output_type == "stream":
        lines = [line for line in output.text.split("\n") if not _NOISE.search(line)]
        output.text = _without_folders("\n".join(lines))
        return output if output.text.strip() else None
    if len(page := output.get("data", {}).get("text/html", "")) > _LARGEST_PAGE:
        del output.data["text/html"]
        if still := _still(page):
            output.data["image/png"] = still
    for kind, value in output.get("data", {}).items():
        if isinstance(value, str) and kind.startswith("text/"):
            output.data[kind] = _without_folders(value)
    if "<pre" not in (page := output.get("data", {}).get("text/html", "<pre")):  # a table of pandas has a line per cell
        output.data["text/html"] = re.sub(r"\s*\n\s*", " ", page)
    if "image/png" in output.get("data", {}):
        _shrink(output.data)
    return output


def _still(page: str) -> str | None:
    """A page as Chromium draws it: a PNG in base64, or None where there is no Chromium.

    Args:
        page: HTML of an output.
    """
    program = shutil.which("chromium")
    if program is None or importlib.util.find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "output.html"
        file.write_text(f"<!doctype html><meta charset='utf-8'><body style='margin:0'>{page}", encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=program, args=list(_CHROMIUM))
        view = browser.new_page(viewport={"width": 1000, "height": 800})
        view.goto(file.as_uri())
        view.wait_for_timeout(_SECONDS_TO_DRAW * 1000)
        # An image of the element alone is blank, as the viewer draws in a sandboxed frame.
        content = view.screenshot(clip=view.locator("body > *").first.bounding_box())
        browser.close()
    return base64.b64encode(content).decode()


def _shrink(data: Any) -> None:
    """Store an image as JPEG if that is much smaller than PNG, as for noisy scans; plots stay PNG."""
    from PIL import Image

    png = base64.b64decode(data["image/png"])
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, "JPEG", quality=80, optimize=True)
    if len(stream.getvalue()) < 0.6 * len(png):
        del data["image/png"]
        data["image/jpeg"] = base64.b64encode(stream.getvalue()).decode()


def _without_folders(text: str) -> str:
    places = {
        sysconfig.get_paths()["purelib"]: "<site-packages>",
        sys.prefix: "<environment>",
        str(FOLDER.parent): "<monai-zsad>",
        tempfile.gettempdir(): "<temporary folder>",
        str(Path.home()): "<home>",
    }
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place + "/", places[place] + "/")
    # MONAI masks a part of its own folder's name, so that the loop above does not find it.
    return re.sub(r"(?<=MONAI __file__: ).*(?=/monai/__init__)", "<site-packages>", text)


def with_outputs(notebook: nbformat.NotebookNode, earlier: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with the outputs of an earlier run, if only its text has changed since.

    Raises:
        ValueError: if the code has changed.
    """
    new, old = ([cell for cell in one.cells if cell.cell_type == "code"] for one in (notebook, earlier))
    if [cell.source for cell in new] != [cell.source for cell in old]:
        raise ValueError("the code was changed: run the notebook")
    for cell, before in zip(new, old, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return notebook


def main() -> None:
    """Run the named notebooks, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="numbers or beginnings of names, for example 01; default: all")
    parser.add_argument("--text", action="store_true", help="update the text only, and keep the outputs")
    options = parser.parse_args()
    names = options.names
    chosen = [source for source in sources() if not names or any(source.name.startswith(name) for name in names)]
    if not chosen:
        parser.error(f"no notebook is named {', '.join(names)}: there are {', '.join(s.stem for s in sources())}")
    for source in chosen:
        start, target = time.monotonic(), source.with_suffix(".ipynb")
        if options.text:
            notebook = with_outputs(read(source), nbformat.read(target, as_version=4))
        else:
            with tempfile.TemporaryDirectory() as folder:
                notebook = run(read(source), Path(folder))
        nbformat.write(notebook, target)
        print(f"{target.name}: {time.monotonic() - start:.0f} s, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
