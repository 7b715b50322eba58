"""Weights of a bundle: which source wins, what a converted file keeps, what is refused."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from monai_zsad.backbones.weights import WeightsRecord, sha256_of
from monai_zsad.errors import ConfigurationError, OutputError, WeightsError
from monai_zsad.networks import Crane, ZeroShotNetwork
from monai_zsad.workflow.bundles import bundle_network, convert, load_weights, read_records
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE

RELEASED = {"clip": "seed:7", "prompts": "seed:8"}
NOTHING: dict[str, str | None] = {"clip": None, "prompts": None}
NATIVE_SIZE = ARCHITECTURE["vision_cfg"]["image_size"]


def tiny(image_size: int = IMAGE_SIZE, **options: Any) -> Crane:
    return Crane(ARCHITECTURE, image_size, path_blocks=3, **options)


def map_of(network: ZeroShotNetwork) -> torch.Tensor:
    slices = torch.rand(2, 1, 40, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network(slices)


def names(network: ZeroShotNetwork) -> dict[str, str]:
    return {part: record.name for part, record in network.records.items()}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    network = {
        "_target_": "monai_zsad.networks.Crane",
        "architecture": ARCHITECTURE,
        "image_size": "@image_size",
        "path_blocks": 3,
    }
    content = {"image_size": IMAGE_SIZE, "released_weights": RELEASED, "network_def": network}
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """CLIP at its native size and prompts, as files of their own."""
    network = tiny(NATIVE_SIZE)
    network.load_weights(clip="seed:1", prompts="seed:2")
    folder = tmp_path_factory.mktemp("parts")
    torch.save(network.clip.state_dict(), folder / "clip.pt")
    torch.save({"prompt_learner": network.prompt_learner.state_dict()}, folder / "prompts.pth")
    return {"clip": str(folder / "clip.pt"), "prompts": str(folder / "prompts.pth")}


# ---- load_weights --------------------------------------------------------------------------------------------------


def test_the_users_weights_come_before_the_converted_file_and_that_before_the_released(bundle: Path):
    checkpoint = bundle / "models" / "model.pt"
    network = tiny()
    assert load_weights(network, NOTHING, RELEASED, checkpoint) == network.records
    assert names(network) == RELEASED

    convert(bundle, {"clip": "seed:3", "prompts": "seed:4"})
    network = tiny()
    load_weights(network, NOTHING, RELEASED, checkpoint)
    assert names(network) == {"clip": "seed:3", "prompts": "seed:4"}

    network = tiny()
    load_weights(network, {"clip": "seed:5"}, RELEASED, checkpoint)
    assert names(network) == {"clip": "seed:5", "prompts": "seed:8"}, "not mixed with the converted file"
    expected = tiny()
    expected.load_weights(clip="seed:5", prompts="seed:8")
    torch.testing.assert_close(map_of(network), map_of(expected), rtol=0, atol=0)


def test_weights_loaded_by_name_replace_those_of_a_converted_file(bundle: Path):
    checkpoint = convert(bundle)
    network = tiny()
    load_weights(network, {}, RELEASED, checkpoint)
    load_weights(network, {"clip": "seed:5", "prompts": "seed:6"}, RELEASED, checkpoint)
    assert names(network) == {"clip": "seed:5", "prompts": "seed:6"}


def test_an_unknown_part_is_refused_before_anything_is_loaded():
    network = tiny()
    with pytest.raises(ConfigurationError, match=r"prior.*clip, prompts"):
        load_weights(network, {"clip": "seed:0", "prior": "seed:0"}, RELEASED)
    assert network.records == {}


def test_what_was_loaded_is_logged(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "monai_zsad.workflow.bundles.weights"):
        load_weights(tiny(), {}, RELEASED)
    assert "clip weights: seed:7" in caplog.text


def test_the_activation_reaches_a_clip_file(parts: dict[str, str]):
    network = tiny()
    with pytest.raises(WeightsError, match="activation="):
        load_weights(network, parts, RELEASED)
    load_weights(network, parts, RELEASED, activation="quick_gelu")
    assert network.records["clip"].activation == "quick_gelu"
    assert not network.meaningless


def without_description(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, path)
    return path


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path):
    state = tiny().state_dict()
    state["text_embedding"] = state.pop("text_anchors")
    file = without_description(tmp_path / "model.pt", state)
    with pytest.raises(WeightsError, match=r"model\.pt .*text_anchors.*text_embedding.*convert"):
        load_weights(tiny(), NOTHING, RELEASED, file)


def test_a_checkpoint_of_another_width_is_refused(tmp_path: Path):
    state = tiny().state_dict()
    state["text_anchors"] = state["text_anchors"][..., :32]
    file = without_description(tmp_path / "model.pt", state)
    with pytest.raises(WeightsError, match=r"model\.pt .*text_anchors.*architecture"):
        load_weights(tiny(), NOTHING, RELEASED, file)


@pytest.mark.parametrize("described", [True, False])
def test_a_truncated_checkpoint_is_refused(bundle: Path, described: bool):
    file = convert(bundle)
    file.write_bytes(file.read_bytes()[:-1000])
    if not described:
        file.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="convert" if described else "truncated") as caught:
        load_weights(tiny(), NOTHING, RELEASED, file)
    assert str(file) in str(caught.value)


# ---- records -------------------------------------------------------------------------------------------------------


def test_records_and_the_mark_of_random_weights_survive(bundle: Path, parts: dict[str, str]):
    file = convert(bundle, {"prompts": parts["prompts"]})
    network = tiny()
    records = load_weights(network, NOTHING, RELEASED, file)
    assert records == read_records(file) == network.records
    assert records["clip"] == WeightsRecord("seed:7", "", "", "quick_gelu", seed=7)
    assert records["prompts"] == WeightsRecord("prompts.pth", sha256_of(parts["prompts"]), "unknown", None)
    assert network.meaningless
    assert network.describe()["weights"]["clip"]["seed"] == 7
    assert str(Path(parts["prompts"]).parent) not in file.with_suffix(".json").read_text(), "no path of this machine"


def test_a_file_without_description_is_known_by_its_hash(bundle: Path, caplog: pytest.LogCaptureFixture):
    file = convert(bundle)
    file.with_suffix(".json").unlink()
    network = tiny()
    with caplog.at_level(logging.WARNING, "monai_zsad.workflow.bundles.weights"):
        load_weights(network, NOTHING, RELEASED, file)
    assert "no model.json" in caplog.text
    assert network.records == {"network": WeightsRecord("model.pt", sha256_of(file), "unknown", None)}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"sha256": "", "weights": 3}', '{"sha256": "", "weights": {"clip": {"nam": "x"}}}']
)
def test_a_damaged_description_is_named(bundle: Path, content: str):
    file = convert(bundle)
    file.with_suffix(".json").write_text(content)
    with pytest.raises(WeightsError, match=r"model\.json .*convert"):
        load_weights(tiny(), NOTHING, RELEASED, file)


def test_the_description_of_another_file_is_refused(bundle: Path, tmp_path: Path, parts: dict[str, str]):
    """Random weights must not go as what an older file was made of."""
    real = convert(bundle, parts, tmp_path / "real.pt", activation="quick_gelu")
    random = convert(bundle)
    shutil.copy(real.with_suffix(".json"), random.with_suffix(".json"))
    with pytest.raises(WeightsError, match=r"remove model\.json"):
        load_weights(tiny(), NOTHING, RELEASED, random)


# ---- bundle_network ------------------------------------------------------------------------------------------------


def test_a_bundles_network_is_built_as_configured_and_overridden(bundle: Path):
    network, released = bundle_network(bundle)
    assert isinstance(network, Crane)
    assert (network.image_size, released, network.records) == (IMAGE_SIZE, RELEASED, {})
    assert bundle_network(str(bundle), image_size=84)[0].image_size == 84


def test_what_is_not_a_bundle_is_named(bundle: Path, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"nowhere .*configs/inference\.yaml"):
        bundle_network(tmp_path / "nowhere")
    config = bundle / "configs" / "inference.yaml"
    with pytest.raises(ConfigurationError, match=r"network_def .*Linear"):
        bundle_network(bundle, network_def={"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1})
    with pytest.raises(ConfigurationError, match="image_size=57"):
        bundle_network(bundle, image_size=57)
    config.write_text("network_def: {_target_: torch.nn.Identity}\n")
    with pytest.raises(ConfigurationError, match="released_weights"):
        bundle_network(bundle)
    config.write_text("network_def: [\n")
    with pytest.raises(ConfigurationError, match=r"inference\.yaml .*line 2"):
        bundle_network(bundle)


# ---- convert -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_size", [NATIVE_SIZE, IMAGE_SIZE, 84])
def test_a_converted_file_equals_its_parts_at_every_size(bundle: Path, parts: dict[str, str], image_size: int):
    file = convert(bundle, parts, activation="quick_gelu")
    assert file == bundle / "models" / "model.pt"
    by_file, by_parts = tiny(image_size), tiny(image_size)
    load_weights(by_file, NOTHING, RELEASED, file)
    by_parts.load_weights(clip=parts["clip"], prompts=parts["prompts"], activation="quick_gelu")
    found = map_of(by_file)
    assert torch.isfinite(found).all()
    assert found[:, 0].std() > 1e-4
    torch.testing.assert_close(found, map_of(by_parts), rtol=0, atol=0)
    assert by_file.records == by_parts.records


def test_a_converted_file_is_a_plain_state_dict(bundle: Path):
    """As MONAI Label and ``CheckpointLoader`` load it."""
    state = torch.load(convert(bundle), weights_only=True)
    network, _ = bundle_network(bundle)
    network.load_state_dict(state, strict=True)
    assert torch.isfinite(map_of(network)).all()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_existing_file_stays_unless_told_otherwise(bundle: Path):
    folder = convert(bundle).parent
    before = contents(folder)
    assert sorted(before) == ["model.json", "model.pt"]
    with pytest.raises(OutputError, match=r"model\.pt .*--overwrite"):
        convert(bundle, {"clip": "seed:1"})
    assert contents(folder) == before
    convert(bundle, {"clip": "seed:1"}, overwrite=True)
    assert read_records(folder / "model.pt")["clip"].name == "seed:1"
    assert sorted(contents(folder)) == ["model.json", "model.pt"]


def test_a_description_of_something_else_is_not_replaced(bundle: Path, tmp_path: Path):
    other = tmp_path / "run.json"
    other.write_text("{}")
    with pytest.raises(OutputError, match=r"run\.json .*--overwrite"):
        convert(bundle, output=tmp_path / "run.pt")
    with pytest.raises(OutputError, match=r"run\.json.*--output.*\.pt"):
        convert(bundle, output=other, overwrite=True)
    assert other.read_text() == "{}"


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [RuntimeError("unexpected pos 64 vs 0"), OSError(28, "No space left on device")])
def test_a_file_is_whole_or_not_there(bundle: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, error: Exception):
    folder = bundle / "models"
    before = contents(convert(bundle).parent) if existing else {}

    def full_disk(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OutputError, match=r"model\.pt: "):
        convert(bundle, {"clip": "seed:1"}, overwrite=existing)
    assert contents(folder) == before


def test_a_real_full_disk_gives_the_same_error(bundle: Path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=r"model\.pt: "):
            convert(bundle)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(bundle / "models") == {}


def test_bad_weights_write_nothing(bundle: Path, tmp_path: Path):
    for weights, error in (
        ({"prior": "seed:0"}, ConfigurationError),
        ({"prompts": str(tmp_path / "missing.pth")}, WeightsError),
    ):
        with pytest.raises(error):
            convert(bundle, weights)
        assert not (bundle / "models").exists()


def test_a_folder_that_cannot_be_made(bundle: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file: .*--output"):
        convert(bundle, output=tmp_path / "file" / "model.pt")


def test_the_description_can_be_read_by_people(bundle: Path):
    text = convert(bundle).with_suffix(".json").read_text()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["sha256", "weights"]
