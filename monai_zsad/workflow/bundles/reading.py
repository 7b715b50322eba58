"""Bundles: find their folders, read their configurations, build their networks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_zsad import bundles
from monai_zsad.data import find_user_error
from monai_zsad.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from monai_zsad.networks import ZeroShotNetwork

__all__ = ["about_bundle", "build_network", "bundle_network", "find_bundle", "read_bundle", "released_weights"]


def about_bundle(bundle: str | os.PathLike[str]) -> dict[str, str]:
    """What a report says about a bundle.

    Args:
        bundle: its folder.

    Returns:
        ``bundle``, the name of the folder; ``measured``, a sentence of its ``metadata.json`` on what the model was
        measured to do, or an empty text.

    Example:
        >>> about_bundle("bundles/tiny_screening")["bundle"]
        'tiny_screening'
    """
    folder = Path(bundle)
    try:
        content = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    return {"bundle": folder.resolve().name, "measured": str(content.get("measured", ""))}


def find_bundle(bundle: str | os.PathLike[str]) -> Path:
    """Find the folder of a bundle.

    Args:
        bundle: a folder; or the name of a bundle, first searched in the folder ``bundles/`` of the working directory
            and then in :mod:`monai_zsad.bundles`.

    Returns:
        The folder. It is relative if ``bundle`` is relative and the folder is in the working directory.

    Raises:
        ConfigurationError: if there is no bundle.
    """
    name = os.fspath(bundle)
    for place in (Path(name), Path("bundles") / name)[: 1 if Path(name).name != name else None]:
        if (place / "configs" / "inference.yaml").is_file():
            return place
    known = bundles.names()
    if name in known:
        return bundles.path(name)
    found = Path(name)
    what = "a folder without configs/inference.yaml" if found.is_dir() else "not the name or the folder of a bundle"
    raise ConfigurationError(f"bundle {name}: {what}; {did_you_mean(found.name, known) or 'give its folder'}")


def read_bundle(bundle: str | os.PathLike[str], overrides: Mapping[str, Any]) -> Any:
    """Read the ``inference.yaml`` of a bundle with MONAI's parser.

    Args:
        bundle: folder of the bundle.
        overrides: values by id. They replace the values of the file.

    Returns:
        The parser.

    Raises:
        ConfigurationError: if the folder is not a bundle of this project.
    """
    import yaml
    from monai.bundle import ConfigParser

    config = Path(bundle) / "configs" / "inference.yaml"
    if not config.is_file():
        raise ConfigurationError(f"{bundle} is not a bundle (no configs/inference.yaml): give the folder of a bundle")
    parser = ConfigParser()
    try:
        parser.read_config(str(config))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config} is not a YAML file; correct it: {' '.join(str(error).split())}") from error
    for key, value in overrides.items():
        parser[key] = value
    if lacking := [key for key in ("network_def", "released_weights") if key not in parser]:
        raise ConfigurationError(
            f"{config} has no {' and no '.join(lacking)}: only bundles of monai_zsad can be used here"
        )
    return parser


def bundle_network(bundle: str | os.PathLike[str], **overrides: Any) -> tuple[ZeroShotNetwork, dict[str, str | None]]:
    """Build the network of a bundle, and return it with the names of its released weights.

    Args:
        bundle: folder of the bundle.
        **overrides: values of ``inference.yaml`` by id, for example ``image_size=336``.

    Returns:
        The network without weights, and the source of each part (``clip``, ``prompts``, ...).

    Raises:
        ConfigurationError: if the folder is not a bundle of this project, or if a value cannot be used.
    """
    parser = read_bundle(bundle, overrides)
    return build_network(parser, bundle), released_weights(parser)


def build_network(parser: Any, bundle: str | os.PathLike[str]) -> ZeroShotNetwork:
    """Build the network of a bundle. Its weights are not loaded.

    Args:
        parser: parser of the bundle, from :func:`read_bundle`.
        bundle: folder of the bundle, for error messages.

    Raises:
        ConfigurationError: if a value cannot be used, or if it is not a network of this project.
    """
    from monai_zsad.networks import ZeroShotNetwork

    try:
        network = parser.get_parsed_content("network_def")
    except RuntimeError as error:
        if cause := find_user_error(error):
            raise ConfigurationError(f"network_def of {bundle}: {cause}") from error
        raise
    if not isinstance(network, ZeroShotNetwork):
        raise ConfigurationError(
            f"network_def of {bundle} is a {type(network).__name__}, not a network of monai_zsad: only bundles of "
            "monai_zsad can be used here"
        )
    return network


def released_weights(parser: Any) -> dict[str, str | None]:
    """Source of the released weights of each part. None if no weights are published for the part."""
    content = parser.get_parsed_content("released_weights")
    return {part: None if source is None else str(source) for part, source in content.items()}
