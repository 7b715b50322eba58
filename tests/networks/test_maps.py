from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter

from monai_zsad.networks.maps import gaussian_weights, grid_to_map, smooth, smoothing_matrix


@pytest.mark.parametrize("size", [5, 40, 112])
def test_smoothing_is_scipys_gaussian_filter(size: int) -> None:
    image = np.random.RandomState(0).rand(2, size, size)
    matrix = smoothing_matrix(size, gaussian_weights(4.0), "symmetric")
    ours = smooth(torch.from_numpy(image).float(), matrix).numpy()
    theirs = np.stack([gaussian_filter(i, sigma=4) for i in image])
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_other_borders_are_numpys() -> None:
    image = np.random.RandomState(0).rand(9, 9)
    ours = smooth(torch.from_numpy(image).float(), smoothing_matrix(9, np.full(3, 1 / 3), "edge")).numpy()
    np.testing.assert_allclose(ours, uniform_filter(image, 3, mode="nearest"), atol=2e-6)
    mirrored = smooth(torch.from_numpy(image).float(), smoothing_matrix(9, gaussian_weights(1.5, 4), "reflect")).numpy()
    np.testing.assert_allclose(mirrored, gaussian_filter(image, 1.5, mode="mirror", radius=4), atol=2e-6)


def test_constant_maps_stay_constant() -> None:
    assert torch.allclose(grid_to_map(torch.full((1, 9), 0.3), 50), torch.tensor(0.3))
    matrix = smoothing_matrix(50, gaussian_weights(4.0), "symmetric")
    torch.testing.assert_close(smooth(torch.full((1, 50, 50), 0.3), matrix), torch.full((1, 50, 50), 0.3))
