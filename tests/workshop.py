"""A folder in which the documents' commands run as they are typed: small bundles with random weights, small inputs."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_zsad.workflow.bundles import bundle_network
from tests.data.benchmarks.miniature import make_head_ct
from tests.data.labelled import make_mvtec, make_volumes
from tests.data.odd_inputs.colour_images import skin
from tests.data.samples import write_nifti, write_series
from tests.documented import ROOT
from tests.integration.scans import body
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE

OWN_SET = "normal: ['{}', 'a healthy {}']\nabnormal: ['{} with a lesion']\nname: brain\n"
# Of released networks; the included model has a size of its own and its weights.
_SMALL = {
    r"^architecture: .*$": f"architecture: {ARCHITECTURE}",
    r"^image_size: .*$": f"image_size: {IMAGE_SIZE}",
}
_PROTOCOL_SIZE = "image_size: $@chosen.image_size"
_PROTOCOL_WEIGHTS = "@chosen.weights_of(@released_weights)"


class Finished(NamedTuple):
    """Exit status and all that was printed."""

    code: int
    output: str


def _scan(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Every second voxel: the same body, in half as many slices of every plane.
    nibabel.save(body().slicer[::2, ::2, ::2], path)


def _scans(folder: Path) -> None:
    _scan(folder / "anna.nii.gz")
    write_series(folder / "cleo")


def _normals(folder: Path) -> None:
    """As few as `calibrate --alpha 0.05` takes."""
    for number in range(19):
        write_nifti(folder / f"normal{number:02}.nii.gz", (12, 10, 4), seed=number)


def _alike(folder: Path) -> None:
    """Scans that can be compared with one another."""
    folder.mkdir(parents=True)
    image = body().slicer[::2, ::2, ::2]
    for seed, name in enumerate(("anna", "ben", "cleo")):
        # Copies of one scan would not be compared with one another.
        values = image.get_fdata() + np.random.default_rng(seed).integers(0, 9, image.shape)
        nibabel.save(nibabel.Nifti1Image(values.astype("int16"), image.affine), folder / f"{name}.nii.gz")


def _own_set(file: Path) -> None:
    file.write_text(OWN_SET, encoding="utf-8")


def _docs(folder: Path) -> None:
    folder.mkdir()
    shutil.copy(ROOT / "docs" / "draw_demo.py", folder)
    (folder / "images").mkdir()


# What a command may name, by the word in it.
_INPUTS: dict[str, Callable[[Path], Any]] = {
    "SCANS": _scans,
    "NORMALS": _normals,
    "DATA": lambda folder: make_mvtec(folder, count=12),
    "FOLDER": lambda folder: make_head_ct(folder, 3),
    "SET": lambda folder: make_head_ct(folder, 3),
    "scan.nii.gz": _scan,
    "demo_output/scan/sample_flair.nii.gz": lambda file: write_nifti(file, (20, 18, 30)),
    "own.yaml": _own_set,
    "photo.jpg": lambda file: Image.fromarray(skin()).save(file),
    "docs/draw_demo.py": lambda file: _docs(file.parent),
}


def make_bundles(folder: Path) -> None:
    """The bundles of this checkout with a few layers, and seeds in the place of released weights."""
    for bundle in (path.parents[1] for path in (ROOT / "bundles").glob("*/configs/inference.yaml")):
        own = bundle / "models" / "model.pt"
        included = bundle.name in ("tiny_screening", "musc")  # both with the weights of the first
        ignored = ["__pycache__"] if included else ["__pycache__", "models", "eval", "trained"]
        shutil.copytree(bundle, folder / bundle.name, ignore=shutil.ignore_patterns(*ignored))
        config = folder / bundle.name / "configs" / "inference.yaml"
        text = config.read_text(encoding="utf-8")
        if included:
            assert own.is_file() or bundle.name == "musc"
            text = re.sub(r"^image_size: .*$", "image_size: 64", text, count=1, flags=re.MULTILINE)
        else:
            for line, small in _SMALL.items():
                text, count = re.subn(line, small, text, count=1, flags=re.MULTILINE)
                assert count == 1, f"{config} has no line {line}"
            before, parts, after = re.split(r"(?<=^released_weights:\n)((?: .*\n)+)", text, flags=re.MULTILINE)
            text = before + re.sub(r": .*$", ": seed:0", parts, flags=re.MULTILINE) + after
        config.write_text(text, encoding="utf-8")
        # A published protocol names released weights and a size of its own.
        evaluation = config.with_name("evaluate.yaml")
        if not evaluation.is_file():
            continue
        named = evaluation.read_text(encoding="utf-8")
        assert _PROTOCOL_WEIGHTS in named
        named = named.replace(_PROTOCOL_WEIGHTS, "@released_weights")
        if not included:
            assert _PROTOCOL_SIZE in named
            named = named.replace(_PROTOCOL_SIZE, f"image_size: {IMAGE_SIZE}")
        evaluation.write_text(named, encoding="utf-8")


def make_inputs(folder: Path, text: str) -> None:
    """What the commands in ``text`` name, where they look for it."""
    for name, make in _INPUTS.items():
        if re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", text) and not (folder / name).exists():
            if name == "SCANS" and "NORMALS" in text:
                make = _normals  # a calibration is for scans of its own kind
            elif name == "SCANS" and re.search(r"\bmusc\b", text):
                make = _alike
            if name == "SET" and "--benchmark volumes" in text:
                make = make_volumes
            make(folder / name)


def write_parts(bundle: Path, folder: Path) -> dict[str, Path]:
    """Weights files of the bundle's network by part, in the form of the releases: random, but files."""
    network, _ = bundle_network(bundle)
    folder.mkdir(exist_ok=True)
    files = {}
    states: dict[str, Any] = {"clip": network.clip.state_dict()}
    for part, key in (("prompts", "prompt_learner"), ("image_adapter", "image_adapter"), ("text_adapter",) * 2):
        if (module := getattr(network, key, None)) is not None:
            states[part] = {key: module.state_dict()}
    for part, state in states.items():
        files[part] = folder / f"{part}.pth"
        torch.save(state, files[part])
    return files


def run(command: str, folder: Path) -> Finished:
    """Run a line as typed in ``folder``: Python modules in this process, other programs in one of their own."""
    words = shlex.split(command)
    # Two processes share a folder as four do.
    words = ["2" if before in ("--workers", "--nproc_per_node") else word for before, word in pairwise(["", *words])]
    if words[0] == "torchrun":
        words = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
    elif words[0] == "python" and "--workers" not in words:
        return _in_process(words[1:], folder)
    elif words[0] == "python":
        words[0] = sys.executable
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False)
    return Finished(done.returncode, done.stdout + done.stderr)


def _in_process(words: list[str], folder: Path) -> Finished:
    printed = io.StringIO()
    code = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "excepthook", sys.excepthook)
        # MONAI's own would close streams that pytest holds.
        patch.setattr("monai.bundle.workflows.fileConfig", lambda *arguments, **options: None)
        log = logging.StreamHandler(printed)
        logging.getLogger().addHandler(log)
        try:
            if words[0] == "-m":
                package = words[1]
                # runpy puts the module's own file in place of the first word.
                patch.setattr(sys, "argv", [package, *words[2:]])
                runpy.run_module(package, run_name="__main__", alter_sys=True)
            else:
                patch.setattr(sys, "argv", words)
                runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0) if isinstance(end.code, int | None) else 1
        except Exception as error:  # noqa: BLE001 - the interpreter's last act, which a bundle's run may have replaced
            sys.excepthook(type(error), error, error.__traceback__)
            code = 1
        finally:
            logging.getLogger().removeHandler(log)
    return Finished(code, printed.getvalue())
