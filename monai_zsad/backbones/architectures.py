"""CLIP architectures that can be built: open_clip's plain ViTs, by name or by configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch

from monai_zsad.errors import ConfigurationError, did_you_mean

__all__ = ["Activation", "build_empty_clip", "clip_configuration"]

Activation = Literal["quick_gelu", "gelu"]
# The keys that the forward passes of this package support. Other keys mean another layout.
_VISION_KEYS = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}


def clip_configuration(architecture: str | Mapping[str, Any]) -> dict[str, Any]:
    """Configuration of ``architecture`` in open_clip's form.

    Raises:
        ConfigurationError: if the architecture is unknown or is not a plain ViT CLIP.
    """
    if isinstance(architecture, str):
        import open_clip

        config = open_clip.get_model_config(architecture)
        if config is None:
            hint = did_you_mean(architecture, open_clip.list_models(), listed=False)
            raise ConfigurationError(
                f"architecture={architecture!r} is unknown to open_clip; {hint or 'give one such as ViT-L-14-336'}"
            )
    else:
        config = dict(architecture)
        if lacking := {"embed_dim", "vision_cfg", "text_cfg"} - config.keys():
            raise ConfigurationError(f"the architecture's configuration lacks {', '.join(sorted(lacking))}")
    config = copy.deepcopy(dict(config))
    config.pop("quick_gelu", None)
    odd = [f"vision_cfg.{key}" for key in sorted(config["vision_cfg"].keys() - _VISION_KEYS)]
    odd += [f"text_cfg.{key}" for key in sorted(config["text_cfg"].keys() - _TEXT_KEYS)]
    odd += sorted(config.keys() - {"embed_dim", "vision_cfg", "text_cfg"})
    if not odd and isinstance(config["vision_cfg"].get("layers"), (list, tuple)):
        odd = ["vision_cfg.layers (a ResNet)"]
    if odd:
        raise ConfigurationError(
            f"architecture={architecture!r} is not a plain ViT CLIP in OpenAI's layout ({', '.join(odd)}): the dense "
            "features of these methods are defined for that layout only; choose for example ViT-L-14-336 or ViT-B-16"
        )
    config["text_cfg"] = {"context_length": 77, "vocab_size": 49408} | config["text_cfg"]
    return config


def build_empty_clip(config: Mapping[str, Any], image_size: int, activation: Activation) -> Any:
    """An open_clip ``CLIP`` with zeros as parameters. Random initialisation would take longer than loading."""
    from open_clip.model import CLIP

    vision = dict(config["vision_cfg"]) | {"image_size": image_size}
    with torch.device("meta"):
        clip = CLIP(config["embed_dim"], vision, dict(config["text_cfg"]), quick_gelu=activation == "quick_gelu")
    return clip._apply(lambda tensor: torch.zeros_like(tensor, device="cpu"))
