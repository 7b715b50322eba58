"""Bundles of this project: finding their folders, reading their configuration, building their networks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_zsad import bundles
from monai_zsad.data import find_user_error
from monai_zsad.errors import ConfigurationError
from monai_zsad.networks import ZeroShotNetwork

__all__ = ["build_network", "bundle_network", "find_bundle", "read_bundle", "released_weights"]


def find_bundle(bundle: str | os.PathLike[str]) -> Path:
    """Folder of a bundle: as it is given, or by its name in ``bundles/`` here or in :mod:`monai_zsad.bundles`.

    Args:
        bundle: a folder or a name.

    Returns:
        The folder, relative where ``bundle`` is and it lies in the working directory.

    Raises:
        ConfigurationError: if there is none.
    """
    name = os.fspath(bundle)
    for place in (Path(name), Path("bundles") / name)[: 1 if Path(name).name != name else None]:
        if (place / "configs" / "inference.yaml").is_file():
            return place
    known = bundles.names()
    if name in known:
        return bundles.path(name)
    raise ConfigurationError(
        f"{name} is no bundle: give its folder" + (f", or one of {', '.join(known)}" if known else "")
    )


def read_bundle(bundle: str | os.PathLike[str], overrides: Mapping[str, Any]) -> Any:
    """MONAI's parser of the bundle's ``inference.yaml``, with values by id in place of the file's.

    Raises:
        ConfigurationError: if the folder holds no bundle of this project.
    """
    import yaml
    from monai.bundle import ConfigParser

    config = Path(bundle) / "configs" / "inference.yaml"
    if not config.is_file():
        raise ConfigurationError(f"{bundle} is no bundle: it has no configs/inference.yaml")
    parser = ConfigParser()
    try:
        parser.read_config(str(config))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config} is no YAML: {' '.join(str(error).split())}") from error
    for key, value in overrides.items():
        parser[key] = value
    if lacking := [key for key in ("network_def", "released_weights") if key not in parser]:
        raise ConfigurationError(
            f"{config} has no {' and no '.join(lacking)}: only bundles of monai_zsad can be used here"
        )
    return parser


def bundle_network(bundle: str | os.PathLike[str], **overrides: Any) -> tuple[ZeroShotNetwork, dict[str, str | None]]:
    """The network of a bundle as its ``inference.yaml`` builds it, and the names of its released weights.

    Args:
        bundle: the bundle's folder.
        **overrides: configuration values by id, for example ``image_size=336``.

    Returns:
        The network, weights not loaded, and the source of each part (``clip``, ``prompts``, ...).

    Raises:
        ConfigurationError: if the folder holds no bundle of this project, or a value cannot be used.
    """
    parser = read_bundle(bundle, overrides)
    return build_network(parser, bundle), released_weights(parser)


def build_network(parser: Any, bundle: str | os.PathLike[str]) -> ZeroShotNetwork:
    """The network of a parsed bundle, weights not loaded.

    Raises:
        ConfigurationError: if a value cannot be used, or it is no network of this project.
    """
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
    """Source of each part of a parsed bundle's network; None where nothing is published."""
    content = parser.get_parsed_content("released_weights")
    return {part: None if source is None else str(source) for part, source in content.items()}
