"""A bundle's network as one file that runs without this package."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.networks.runtimes.export import FORMATS, write_network
from monai_zsad.workflow.bundles.reading import build_network, read_bundle, released_weights
from monai_zsad.workflow.bundles.weights import check_parts, load_weights

__all__ = ["export"]

# Largest difference of the file's maps and scores from those of the network.
_BOUND = 1e-4


def export(
    bundle: str | os.PathLike[str],
    kind: str,
    output: str | os.PathLike[str] | None = None,
    weights: Mapping[str, str | None] | None = None,
    *,
    activation: str | None = None,
    overwrite: bool = False,
) -> tuple[Path, float]:
    """Write a bundle's network, with its weights and prompts, to a file for another program.

    Its input is a batch of slices (B, 3, S, S) in [0, 1] for any B, prepared as in ``inference.yaml``, its output what
    the network gives: (B, 2 or 3, S, S). The file is opened and compared with the network before it gets its name.

    Args:
        bundle: folder of the bundle.
        kind: ``"pt2"`` (``torch.export.load``), ``"onnx"``, ``"openvino"`` or ``"torchscript"`` (``torch.jit.load``).
        output: file to write. The default is ``models/model`` of the bundle, with the ending of the format.
        weights: source of each part. Without any, ``models/model.pt`` or the released weights.
        activation: activation of CLIP weights from a file that does not contain this information.
        overwrite: whether to replace an existing file.

    Returns:
        The file, and the largest difference of its maps and scores from those of the network.

    Raises:
        ConfigurationError: if an argument cannot be used, a package is missing, or the network cannot be exported.
        OutputError: if the file exists and ``overwrite`` is false, or if it cannot be written.
        WeightsError: if weights are unknown, missing or damaged, or if they do not fit.
    """
    if kind not in FORMATS:
        raise ConfigurationError(f"format={kind!r} is unknown: choose {', '.join(FORMATS)}")
    ending = FORMATS[kind]
    target = Path(bundle) / "models" / f"model{ending}" if output is None else Path(output)
    if target.suffix != ending:
        raise OutputError(f"{target}: a file of the format {kind} ends in {ending}; give such an --output")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists: add --overwrite to replace it, or give another --output")
    parser = read_bundle(bundle, {})
    released = released_weights(parser)
    check_parts(weights or {}, released, activation)
    network = build_network(parser, bundle)
    load_weights(network, weights or {}, released, Path(bundle) / "models" / "model.pt", activation)
    network.speed_up()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix="."))
    except OSError as error:
        raise OutputError(f"{target.parent} cannot be written ({error.strerror}); give another --output") from error
    try:
        run = write_network(network, kind, folder / target.name)
        difference = _difference(network, run)
        # This form refuses NaN too.
        if not difference <= _BOUND:
            raise ConfigurationError(
                f"{target.name}: its maps differ by {difference:.2g} from the network's, more than {_BOUND:g}; it was "
                "not written. Choose another format"
            )
        # Files of weights first, since the one with the name refers to them.
        for file in sorted(folder.iterdir(), key=lambda file: file.name == target.name):
            os.replace(file, target.parent / file.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target, difference


def _difference(network: ZeroShotNetwork, run: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Largest difference on three slices with soft shapes, a batch size that the export did not see."""
    side, generator = network.image_size, torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    with torch.no_grad():
        return float((run(images) - network(images)).abs().max())
