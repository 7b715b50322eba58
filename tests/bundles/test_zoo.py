"""The checks of MONAI's Model Zoo (``ci/verify_bundle.py`` of Project-MONAI/model-zoo), as it does them.

Networks are small and weights are seeded. ``test_bundles.py`` checks the schema of the metadata, the shapes, at the
real size too, and the properties. The zoo checks the properties of the apps in ``supported_apps``. None of its apps is
for these bundles, so the properties that MONAI itself asks for are checked.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import monai.bundle
import pytest
import torch
import yaml

from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.workflow.bundles import build_network, load_weights, name_large_file, released_weights
from tests.bundles.runs import BUNDLES, parser_of, small
from tests.bundles.test_bundles import metadata_of

# Lists of the zoo's ci/bundle_custom_data.py for bundles that cannot meet a rule.
LISTS = ("exclude_verify_preferred_files_list", "exclude_verify_torchscript_list")


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda folder: folder.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def network(bundle: Path) -> ZeroShotNetwork:
    parser = parser_of(bundle, **small(bundle))
    network, released = build_network(parser, bundle), released_weights(parser)
    load_weights(network, dict.fromkeys(released, "seed:0"), released)
    return network


@pytest.fixture(scope="module")
def complete(bundle: Path, network: ZeroShotNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle whose ``large_files.yml`` leads to ``models/model.pt``."""
    folder = tmp_path_factory.mktemp("zoo") / bundle.name
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("models"))
    (folder / "models").mkdir()
    torch.save(network.portable_state_dict(), folder / "models" / "model.pt")
    hosted = folder.parent / "hosted.pt"
    name_large_file(folder, hosted.as_uri())
    (folder / "models" / "model.pt").rename(hosted)
    monai.bundle.download_large_files(bundle_path=str(folder))
    return folder


def test_directory(complete: Path) -> None:
    for name in ("LICENSE", "configs/metadata.json", "configs/inference.yaml", "models/model.pt"):
        assert (complete / name).is_file(), name


def test_without_a_hosted_file_the_card_asks_for_the_lists(bundle: Path) -> None:
    listed = bundle / "large_files.yml"
    files = yaml.safe_load(listed.read_text(encoding="utf-8"))["large_files"] if listed.is_file() else []
    leads = (bundle / "models" / "model.json").is_file() or any(one["path"] == "models/model.pt" for one in files)
    card = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert leads or all(name in card for name in LISTS)


def test_version_is_in_the_changelog(bundle: Path) -> None:
    metadata = metadata_of(bundle)
    assert metadata["version"] in metadata["changelog"]


def test_torchscript(complete: Path, network: ZeroShotNetwork) -> None:
    size = network.image_size
    target = complete / "models" / "verify_model.ts"
    monai.bundle.ckpt_export(
        net_id="network_def",
        filepath=str(target),
        ckpt_file=str(complete / "models" / "model.pt"),
        meta_file=str(complete / "configs" / "metadata.json"),
        config_file=str(complete / "configs" / "inference.yaml"),
        bundle_root=str(complete),
        **small(complete),
    )
    loaded = torch.jit.load(target)
    for batch, channels in ((1, 3), (3, 3), (2, 1)):
        slices = torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            torch.testing.assert_close(loaded(slices), network(slices), atol=1e-4, rtol=0)
