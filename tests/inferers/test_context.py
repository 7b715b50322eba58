"""Slices with their neighbours as channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError
from monai_zsad.inferers import VolumeSliceInferer
from tests.inferers.toy import Brightness


def ramp(count: int, spacing: float) -> MetaTensor:
    """A volume whose value is the slice's place in mm; always above 0."""
    values = torch.arange(count, dtype=torch.float32) * spacing + 1
    return MetaTensor(values.expand(1, 1, 8, 8, count).clone(), affine=np.diag([1.0, 1.0, spacing, 1.0]))


@pytest.mark.parametrize(("spacing", "context"), [(3.0, 3.0), (1.0, 2.5), (4.0, 3.0)])
def test_neighbours_lie_at_their_distance(spacing: float, context: float) -> None:
    volume, network = ramp(7, spacing), Brightness()
    VolumeSliceInferer(batch_size=3, context_mm=context)(volume, network)
    seen = torch.cat(network.seen)[:, :, 0, 0]
    here = torch.arange(7) * spacing
    below = (here - context).clamp(0, 6 * spacing)
    above = (here + context).clamp(0, 6 * spacing)
    torch.testing.assert_close(seen, torch.stack([below, here, above], dim=1) + 1)


def test_named_planes_have_context_too() -> None:
    volume, network = ramp(6, 2.0), Brightness()
    # In coronal slices the ramp runs along the rows, and neighbours are alike.
    VolumeSliceInferer(planes="coronal", context_mm=1.0)(volume, network)
    seen = torch.cat(network.seen)
    assert seen.shape[1] == 3
    torch.testing.assert_close(seen[:, 0], seen[:, 1])


def test_volumes_of_three_channels_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"context_mm=3\.0 needs volumes of one channel"):
        VolumeSliceInferer(context_mm=3.0)(torch.ones(1, 3, 8, 8, 4), Brightness())


@pytest.mark.parametrize("context", [0, -1, float("nan"), "near"])
def test_a_distance_is_wanted(context: object) -> None:
    with pytest.raises(ConfigurationError, match="context_mm"):
        VolumeSliceInferer(context_mm=context)  # type: ignore[arg-type]  # on purpose
