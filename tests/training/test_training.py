"""Networks in training: what is frozen, what has gradients, what the losses get, and features kept on disk."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_zsad.errors import ConfigurationError, OutputError, WeightsError
from monai_zsad.losses import AACLIPTextLoss, CraneLoss, aaclip_loss
from monai_zsad.losses.methods import level_losses
from monai_zsad.networks import AACLIP, Crane
from monai_zsad.training.aaclip import AACLIPImageTraining, AACLIPTextTraining, aaclip_training
from monai_zsad.training.crane import CraneTraining, TrainingNetwork
from monai_zsad.training.feature_cache import FeatureCache
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE
from tests.parity import Context, _seeded_module, build_aaclip

IMAGES = torch.rand(3, 1, 40, 44, generator=torch.Generator().manual_seed(2))
MASK = torch.zeros(3, 1, IMAGE_SIZE, IMAGE_SIZE)
MASK[0, :, 10:30, 5:25] = 1


def crane_training(**options: Any) -> CraneTraining:
    training = CraneTraining(Crane(ARCHITECTURE, IMAGE_SIZE, path_blocks=3), **options)
    training.load_weights(clip="seed:0", seed=3)
    return training


def text_training(**options: Any) -> AACLIPTextTraining:
    training = AACLIPTextTraining(AACLIP(ARCHITECTURE, IMAGE_SIZE), **options)
    training.load_weights(clip="seed:0", seed=3)
    return training


def image_training() -> AACLIPImageTraining:
    training = AACLIPImageTraining(AACLIP(ARCHITECTURE, IMAGE_SIZE))
    training.load_weights(clip="seed:0", text_adapter="seed:1", seed=3)
    return training


CASES: dict[str, tuple[Any, torch.nn.Module]] = {
    "crane": (crane_training, CraneLoss()),
    "aaclip_text": (text_training, aaclip_loss(1)),
    "aaclip_image": (image_training, aaclip_loss(2)),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[TrainingNetwork, torch.nn.Module]:
    build, loss = CASES[request.param]
    return build(), loss


def test_only_the_trained_part_changes(case) -> None:
    training, loss = case
    before = copy.deepcopy(training.state_dict())
    optimizer = torch.optim.SGD(training.trainable_parameters(), lr=0.1)
    loss(training(IMAGES), MASK).backward()
    with_gradient = {name for name, parameter in training.named_parameters() if parameter.grad is not None}
    own = {f"network.{training.part}.{name}" for name, _ in training.learned.named_parameters()}
    assert with_gradient == own == {name for name, p in training.named_parameters() if p.requires_grad}
    optimizer.step()
    after = training.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name]) and name != "network.text_anchors"}
    assert changed == own


def test_frozen_modules_stay_in_evaluation_mode(case) -> None:
    training, _ = case
    training.train()
    in_training = {module for module in training.modules() if module.training}
    assert in_training == {training, *training.learned.modules()}
    training.eval()
    assert not any(module.training for module in training.modules())


def test_input_stays_untouched_and_calls_are_equal(case) -> None:
    training, loss = case
    images = IMAGES.clone()
    first, second = loss(training(images), MASK), loss(training(images), MASK)
    assert torch.equal(first, second)
    assert torch.equal(images, IMAGES)


def test_losses_of_single_images_average_to_the_batchs(case) -> None:
    training, loss = case
    alone = [float(loss(training(IMAGES[i : i + 1]), MASK[i : i + 1])) for i in range(3)]
    assert float(loss(training(IMAGES), MASK)) == pytest.approx(np.mean(alone), rel=1e-5)


@torch.no_grad()
def test_evaluation_gives_maps_of_the_present_weights(case) -> None:
    training, _ = case
    first = training.eval()(IMAGES)
    assert first.shape == (3, 2, 40, 44)
    assert first.isfinite().all()
    assert not first[:, 0].requires_grad
    assert ((first[:, 0] >= 0) & (first[:, 0] <= 1)).all()
    training.train()
    for parameter in training.trainable_parameters():
        parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    assert not torch.allclose(training.eval()(IMAGES), first, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("build", [crane_training, image_training])
def test_evaluation_is_the_bundles_inference(build) -> None:
    training = build()
    found = training.eval()(IMAGES)
    torch.testing.assert_close(training.network(IMAGES), found, rtol=0, atol=2e-6)


def test_start_follows_the_seed() -> None:
    one, same = crane_training(), crane_training()
    other = CraneTraining(Crane(ARCHITECTURE, IMAGE_SIZE))
    other.load_weights(clip="seed:0", seed=4)
    assert torch.equal(one.learned.ctx_pos, same.learned.ctx_pos)
    assert not torch.equal(one.learned.ctx_pos, other.learned.ctx_pos)


def test_a_checkpoint_is_a_start(tmp_path: Path) -> None:
    training = crane_training()
    file = tmp_path / "epoch_5.pth"
    torch.save({"prompt_learner": training.learned.state_dict()}, file)
    other = CraneTraining(Crane(ARCHITECTURE, IMAGE_SIZE))
    other.load_weights(clip="seed:0", prompts=file, seed=9)
    assert torch.equal(other.learned.ctx_neg, training.learned.ctx_neg)


# ---- Crane ---------------------------------------------------------------------------------------------------------


def test_crane_is_trained_with_prompts_of_each_image() -> None:
    conditioned, plain = (crane_training(image_conditioned=value)(IMAGES) for value in (True, False))
    assert conditioned["probabilities"].shape == (1, 3, 2, 4, 4)
    assert not torch.allclose(conditioned["probabilities"], plain["probabilities"])


@torch.no_grad()
def test_cranes_unconditioned_probabilities_are_those_of_its_inference() -> None:
    training = crane_training(image_conditioned=False, image_temperature=0.07)
    outputs = training(IMAGES)
    training.update_anchors()
    network = training.network
    prediction = network.predict(network.normalize(network.resize(IMAGES)))
    expected = prediction.details["logits"].softmax(-1)[..., 1].unflatten(-1, (4, 4))
    torch.testing.assert_close(outputs["probabilities"][:, :, 1], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(outputs["image_logits"].softmax(-1)[:, 1], prediction.score, rtol=0, atol=1e-6)


def test_conditioned_prompts_need_a_joint_space_of_the_text_width() -> None:
    architecture = {**ARCHITECTURE, "embed_dim": 32}
    with pytest.raises(ConfigurationError, match="--image_conditioned false"):
        CraneTraining(Crane(architecture, IMAGE_SIZE))
    CraneTraining(Crane(architecture, IMAGE_SIZE), image_conditioned=False)


# ---- AA-CLIP -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_losses_per_level_are_the_releases(shared: Path) -> None:
    path = shared / "golden" / "aaclip_mini.npz"
    with np.load(path) as archive:
        meta, golden = json.loads(str(archive["meta"])), archive["seg_loss_per_level"]
    context = Context(_seeded_module(path.parent), shared / "checkpoints" / "crane")
    training = AACLIPImageTraining(build_aaclip(meta, context))
    images = training.network.denormalize(context.images(meta))
    # The files hold normalised images; the network takes them in [0, 1], where nothing is cut off.
    training._normalized = lambda images: context.images(meta)  # type: ignore[method-assign]
    size = meta["image_size"]
    mask = np.random.RandomState(meta["image_seed"] + 7).rand(len(images), 1, size, size) > 0.8
    outputs = training(images)
    losses = level_losses(outputs["logits"], torch.from_numpy(mask))
    np.testing.assert_allclose(losses.numpy(), golden, rtol=2e-5)
    image = torch.nn.functional.cross_entropy(outputs["image_logits"], torch.ones(len(images), dtype=torch.long))
    total = aaclip_loss(2)(outputs, torch.from_numpy(mask))
    assert float(total) == pytest.approx(golden.sum() + float(image), rel=2e-5)


def test_visual_targets_of_stage_one() -> None:
    training = text_training()
    frozen = training._encode(IMAGES)
    assert frozen["targets"].shape == (3, 4, 16, 64)
    patch = frozen["targets"] - frozen["cls"][:, None, None]
    for unit in (patch, frozen["cls"]):
        torch.testing.assert_close(unit.norm(dim=-1), torch.ones(unit.shape[:-1]), rtol=0, atol=1e-5)
    alone = training._encode(IMAGES[1:2])["targets"]  # attention over patches, not along the batch
    torch.testing.assert_close(alone, frozen["targets"][1:2], rtol=0, atol=2e-6)


def test_orthogonality_is_part_of_stage_one() -> None:
    outputs = {"logits": torch.zeros(4, 2, 2, 4, 4), "anchors": torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])}
    mask = torch.zeros(2, 1, 8, 8)
    difference = AACLIPTextLoss(1.0)(outputs, mask) - AACLIPTextLoss(0.0)(outputs, mask)
    assert float(difference) == pytest.approx(0.36, abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("build", [text_training, image_training])
def test_each_image_may_have_its_own_name(build) -> None:
    training = build()
    names = ["liver", "brain", "liver"]
    mixed = training(IMAGES, names)["logits"]
    for row, name in enumerate(names):
        alone = training(IMAGES[row : row + 1], [name])["logits"]
        torch.testing.assert_close(mixed[:, row : row + 1], alone, rtol=0, atol=2e-4)
    assert not torch.allclose(mixed, training(IMAGES)["logits"], atol=1e-3)
    maps = training.eval()(IMAGES, names)
    torch.testing.assert_close(maps[1:2], training(IMAGES[1:2], ["brain"]), rtol=0, atol=2e-6)


def test_stages() -> None:
    network = AACLIP(ARCHITECTURE, IMAGE_SIZE)
    assert aaclip_training(network, 1).part == "text_adapter"
    assert aaclip_training(network, 2).part == "image_adapter"
    assert not any(parameter.requires_grad for parameter in network.text_adapter.parameters())
    with pytest.raises(ConfigurationError, match="choose 1"):
        aaclip_training(network, 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="feature_cache"):
        aaclip_training(network, 2, "somewhere")
    with pytest.raises(WeightsError, match="--stage 1"):
        aaclip_training(network, 2).load_weights(clip="seed:0")


# ---- features on disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [crane_training, text_training])
def test_kept_features_give_the_same_losses(build, tmp_path: Path) -> None:
    loss = CASES["crane" if build is crane_training else "aaclip_text"][1]
    training = build(cache_dir=tmp_path)
    plain = float(loss(build()(IMAGES), MASK))
    for expected in (0, 3):
        assert float(loss(training(IMAGES), MASK)) == pytest.approx(plain, rel=1e-6)
        assert training._cache is not None
        assert training._cache.hits == expected
    training.eval()(IMAGES)
    assert training._cache.hits == 6
    assert training._cache.misses == 3


def test_other_weights_or_images_have_other_features(tmp_path: Path) -> None:
    crane_training(cache_dir=tmp_path)(IMAGES)
    assert len(list(tmp_path.iterdir())) == 3
    other = crane_training(cache_dir=tmp_path)
    other.load_weights(clip="seed:1")
    other(IMAGES)
    assert len(list(tmp_path.iterdir())) == 6
    other(IMAGES + 0.1)
    assert len(list(tmp_path.iterdir())) == 9


def test_a_damaged_feature_file_is_made_anew(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, {})
    images = torch.rand(1, 1, 2, 2)
    cache(images, lambda x: {"mean": x.mean((1, 2, 3))})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    again = cache(images, lambda x: {"mean": x.mean((1, 2, 3))})
    assert float(again["mean"]) == pytest.approx(float(images.mean()))
    assert cache.misses == 2


def test_a_folder_for_features_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--feature_cache"):
        FeatureCache(tmp_path / "file" / "below", {})
