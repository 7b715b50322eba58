from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.mutual.inferer import MutualInferer
from monai_zsad.mutual.matching import ComparedScan
from monai_zsad.transforms import BodyMask
from tests.mutual.toy import Network, body, inferer, kept


def compared(own: MutualInferer, folder: Path, case: str, count: int = 4, **scans: Any) -> MutualInferer:
    """The inferer, which compares ``case`` with ``count`` bodies without a lesion."""
    volumes = {f"normal{number}": body(number) for number in range(count)} | scans
    store = kept(folder, volumes, own)
    others = [own.compared(store.read(name)) for name in volumes if name != case]
    own.compare = lambda inputs: (store.read(case), others)
    return own


def test_what_other_scans_lack_stands_out(tmp_path: Path) -> None:
    scan = body(9, lesion=True)
    own = compared(inferer(batch_size=2), tmp_path, "scan", scan=scan)
    result = own(scan, Network())
    assert result.shape == (1, 2, 16, 16, 6)
    lesion = result[0, 0, 8:12, 4:8, 3].mean()
    elsewhere = result[0, 0, 2:14, 2:14, [0, 1, 4, 5]].amax()
    assert lesion > 1.5 * elsewhere
    assert result[0, 1, 0, 0].argmax() == 3
    assert torch.equal(result[0, 1, 0, 0], result[0, 0].amax((0, 1)))
    assert 0 <= result.min() <= result.max() <= 1


def test_a_scan_is_normal_among_its_like(tmp_path: Path) -> None:
    normal = compared(inferer(), tmp_path / "normal", "scan", scan=body(9))(body(9), Network())
    lesion = compared(inferer(), tmp_path / "lesion", "scan", scan=body(9, lesion=True))(
        body(9, lesion=True), Network()
    )
    common = {f"same{number}": body(20 + number, lesion=True) for number in range(4)}
    shared = compared(inferer(), tmp_path / "shared", "scan", 0, scan=body(9, lesion=True), **common)
    assert lesion[:, 0].amax() > 2 * normal[:, 0].amax()
    # The limit of the method: what most scans have looks normal.
    assert shared(body(9, lesion=True), Network())[:, 0].amax() < lesion[:, 0].amax() / 2


def test_stored_and_computed_features_give_one_map(tmp_path: Path) -> None:
    scan = body(9, lesion=True)
    own = compared(inferer(), tmp_path, "scan", scan=scan)
    stored = own(scan, Network())
    others = own.compare(scan)[1]
    own.compare = lambda inputs: (None, others)
    torch.testing.assert_close(own(scan, Network()), stored, atol=2e-3, rtol=0)


def test_slices_that_are_left_out_are_interpolated(tmp_path: Path) -> None:
    scan = body(9, slices=9)
    own = compared(inferer(slice_spacing_mm=2.0), tmp_path, "scan", scan=scan)
    own.compare(scan)
    result = own(scan, Network())[0, 0]
    torch.testing.assert_close(result[..., 1], (result[..., 0] + result[..., 2]) / 2)


def test_slices_are_compared_at_their_height() -> None:
    loaded: list[int] = []

    def load(number: int) -> torch.Tensor:
        loaded.append(number)
        return torch.full((1, 1, 2, 1), float(number))

    scan = ComparedScan(torch.linspace(0, 1, 5), torch.tensor([0, 0, 0, 0, 1]), load)
    assert [int(one[0, 0, 0, 0]) for one in scan.near(0.3, 0, 2)] == [1, 2]
    assert [int(one[0, 0, 0, 0]) for one in scan.near(0.6, 0, 2)] == [2, 3]
    # Slice 2 was kept.
    assert loaded == [1, 2, 3]
    assert [int(one[0, 0, 0, 0]) for one in scan.near(0.0, 1, 3)] == [4]
    with pytest.raises(InputError, match="no slices of plane 2"):
        scan.near(0.5, 2, 1)


def test_planes_are_compared_with_themselves(tmp_path: Path) -> None:
    scan = body(9, lesion=True, slices=16)
    own = compared(inferer(planes=["axial", "coronal"]), tmp_path, "scan", scan=scan)
    stored = own.compare(scan)[0]
    assert stored is not None
    assert stored.planes.unique().tolist() == [0, 1]
    assert stored.kind.planes == ("axial", "coronal")
    found = own(scan, Network())
    # The result is the mean over the planes.
    each = [compared(inferer(planes=[plane]), tmp_path / plane, "scan", scan=scan) for plane in ("axial", "coronal")]
    maps = [one(scan, Network())[:, 0] for one in each]
    torch.testing.assert_close(found[:, 0], sum(maps) / 2)
    assert not torch.allclose(maps[0], maps[1], atol=1e-3)


class Faint(Network):
    """The same map on another scale."""

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return 0.2 + super().forward(slices) / 10


@pytest.mark.parametrize("fuse", ["mean", "rank"])
def test_fusion_with_the_map_of_the_prompts(tmp_path: Path, fuse: str) -> None:
    scan = body(9, lesion=True)
    own = compared(inferer(fuse=fuse), tmp_path, "scan", scan=scan)
    found = own(scan, Network())
    plain = compared(inferer(), tmp_path, "scan", scan=scan)(scan, Network())
    assert torch.equal(found[:, 1], plain[:, 1])
    # Whatever the scale of the prompts' map is, it counts as much.
    other = compared(inferer(fuse=fuse), tmp_path, "scan", scan=scan)(scan, Faint())
    # Rounding may swap two ranks of 864.
    torch.testing.assert_close(other, found, atol=1e-5 if fuse == "mean" else 1 / 864, rtol=0)
    if fuse == "mean":
        # The other part has the scale of the distances.
        part, inside = 2 * found[:, 0] - plain[:, 0], BodyMask()(scan[0]).bool()
        assert part[inside].median().item() == pytest.approx(plain[:, 0][inside].median().item(), rel=0.02)
        high = [one[inside].quantile(0.99).item() for one in (part, plain[:, 0])]
        assert high[0] == pytest.approx(high[1], rel=0.02)
        # The prompts' map is that of the brightness: sharp, where the other one is as coarse as its tokens.
        assert found[0, 0, 9, 5, 3] > 1.5 * found[0, 0, 9, 9, 3]
    else:
        assert found[0, 0, 9, 5, 3] > 0.95
        assert found[0, 0, :2].max() < 0.5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"degrees": [2]}, "degrees"),
        ({"interval": [0.3, 0.1]}, "interval"),
        ({"height_slices": 0}, "height_slices"),
        ({"fuse": "max"}, "fuse"),
        ({"token_spacing_mm": 2.0}, "token_spacing_mm"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        inferer(**options)


def test_one_scan_alone_is_refused() -> None:
    with pytest.raises(InputError, match="run the bundle on a folder of scans"):
        inferer()(body(), Network())


def test_an_empty_scan_has_no_features() -> None:
    scan = body()
    scan.zero_()
    with pytest.raises(InputError, match="min_foreground"):
        inferer().extract(scan, Network())
