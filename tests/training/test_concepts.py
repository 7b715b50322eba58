"""Training a small CLIP on windows: the network that inference runs, and steps that can be repeated."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.losses import ConceptLoss
from monai_zsad.networks.aaclip import SIMILARITY_SCALE
from monai_zsad.networks.adapters import split_subpatches
from monai_zsad.prompts import concepts
from monai_zsad.training.concepts import ConceptTraining, parameter_groups, prepare_windows
from monai_zsad.training.initialisation import sine_positions
from tests.networks.small import CONFIG, PARTS, SIDE, SIZE, SLICES, WHOLE, small_network, small_training, window

NAMES = ["lesion", "hyperintense", "small_hypointense"]


def drawn_anchors(training: ConceptTraining, steps: int) -> torch.Tensor:
    """Anchors (concepts, 2, D) of the sentences of a step, the way inference computes them."""
    rng = np.random.default_rng([training.seed, steps])
    return torch.stack(
        [
            torch.stack([training.network.encode_prompts(kind) for kind in concept.sentences(training.sentences, rng)])
            for concept in training.concepts
        ]
    )


@torch.no_grad()
def test_windows_of_the_whole_slice_are_the_inference_path() -> None:
    training = small_training(names=NAMES)
    training(SLICES, WHOLE)  # so that the batch norms know the data
    training.network.eval()  # they use what they know, as inference does
    training.steps.zero_()
    found = training(SLICES, WHOLE)
    assert found["words"].shape == found["auxiliary"].shape == (3, 1, SIDE**2, PARTS**2, 3)
    network = training.network
    features, _ = network.features(network.normalize(SLICES))
    anchors = drawn_anchors(training, 0)
    logits = SIMILARITY_SCALE * features[0] @ (anchors[:, 1] - anchors[:, 0]).T
    words = split_subpatches(found["words"][:, 0].flatten(2), SIDE, PARTS)
    torch.testing.assert_close(words, logits, atol=1e-4, rtol=1e-5)
    assert words.std() > 0.1

    for number in range(3):
        network.text_anchors = anchors[None, number]
        grid = words[..., number].unflatten(1, (1, SIDE * PARTS, SIDE * PARTS))
        expected = torch.sigmoid(F.interpolate(grid, (SIZE, SIZE), mode="bilinear", align_corners=False))
        torch.testing.assert_close(network(SLICES)[:, :1], expected, atol=1e-4, rtol=0)


def test_statistics_of_batch_normalisation_stay_once_they_have_settled() -> None:
    training = small_training(names=NAMES, settle=2)
    norms = [part for part in training.network.modules() if isinstance(part, nn.BatchNorm2d)]
    means = []
    for _ in range(4):
        training.train()
        training(SLICES, WHOLE)
        means.append(torch.cat([norm.running_mean.clone() for norm in norms if norm.running_mean is not None]))
    assert not torch.equal(means[0], means[1])
    assert torch.equal(means[1], means[2])
    assert torch.equal(means[2], means[3])
    assert training.training
    assert not any(norm.training for norm in norms)
    # Now training sees what inference sees.
    training.steps.fill_(7)
    with torch.no_grad():
        found = training(SLICES, WHOLE)["words"]
        training.network.eval()
        training.steps.fill_(7)
        torch.testing.assert_close(training(SLICES, WHOLE)["words"], found)


@torch.no_grad()
def test_windows_are_where_their_tokens_say() -> None:
    training = small_training(names=NAMES)
    training.network.eval()
    tokens = torch.stack([window(1, 2, 3), window(2, 0, 3)]).expand(3, -1, -1)
    changed = SLICES.clone()
    changed[:, :, 24:26, 20:22] = 1 - changed[:, :, 24:26, 20:22].round()
    plain, found = training._windows(SLICES, tokens), training._windows(changed, tokens)
    assert found.shape == (6, 9, PARTS**2, CONFIG["embed_dim"])
    difference = (found - plain).norm(dim=-1)
    for number in (0, 2, 4):  # the first window of each slice shows it, in the middle of its second row of patches
        place, part = divmod(int(difference[number].argmax()), PARTS**2)
        token = int(tokens[0, 0, place])
        row, column = token // SIDE * PARTS + part // PARTS, token % SIDE * PARTS + part % PARTS
        assert abs(row - 12) <= 2
        assert abs(column - 10) <= 2
    # Windows do not see each other.
    torch.testing.assert_close(training._windows(SLICES[1:2], tokens[1:2, 1:]), plain[3:4], atol=2e-5, rtol=1e-4)


def test_gradients_reach_everything_that_is_trained() -> None:
    training = small_training(names=NAMES)
    tokens = window(1, 1, 4).expand(3, 1, -1)
    label = (torch.rand(3, 1, 16, PARTS**2, 3, generator=torch.Generator().manual_seed(2)) > 0.7).float()
    found = training(SLICES, tokens)
    ConceptLoss()(found, (label, torch.ones_like(label[..., :1]))).backward()
    for name, parameter in training.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
        else:
            assert parameter.grad is None, name
    trained = {name for name, parameter in training.named_parameters() if parameter.requires_grad}
    assert {"network.clip.visual.conv1.weight", "network.clip.token_embedding.weight", "auxiliary.weight"} <= trained
    assert "network.clip.visual.proj" not in trained


def test_words_alone_train_both_towers() -> None:
    training = small_training(names=NAMES)
    training(SLICES, WHOLE)["words"].square().mean().backward()
    clip = training.network.clip
    for weight in (clip.visual.conv1.weight, clip.token_embedding.weight, clip.positional_embedding):
        assert weight.grad.any()
    assert not training.auxiliary.weight.grad


def test_a_few_steps_lower_the_loss() -> None:
    training = small_training(names=NAMES)
    label = torch.zeros(3, 1, SIDE**2, PARTS**2, 3)
    label[:, :, 6:14, :, :2] = 1
    target = (label, torch.ones_like(label[..., :1]))
    optimizer = torch.optim.AdamW(parameter_groups(training, 0.02), lr=3e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = ConceptLoss()(training(SLICES, WHOLE), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.8 * losses[0]


@torch.no_grad()
def test_a_training_that_goes_on_draws_the_same_sentences() -> None:
    training = small_training(names=NAMES)
    first = training.anchors()
    state = copy.deepcopy(training.state_dict())
    second = training.anchors()
    resumed = small_training(names=NAMES)
    resumed.load_state_dict(state)
    assert int(resumed.steps) == 1
    assert torch.equal(resumed.anchors(), second)
    assert not torch.allclose(first, second, atol=1e-3)
    torch.testing.assert_close(first, drawn_anchors(training, 0), atol=1e-5, rtol=0)
    torch.testing.assert_close(second, drawn_anchors(training, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(3, 2))


@torch.no_grad()
def test_evaluation_gives_maps_of_the_present_weights() -> None:
    training = small_training(names=NAMES).eval()
    first = training(SLICES)
    assert first.shape == (3, 2, SIZE, SIZE)
    assert ((first >= 0) & (first <= 1)).all()
    assert int(training.steps) == 0
    assert torch.equal(training(SLICES), first)
    training.train()
    training(SLICES, WHOLE)
    next(training.network.text_adapter.parameters()).mul_(-1)
    second = training.eval()(SLICES)
    assert not torch.allclose(first, second, atol=1e-3)
    training.network.update_text_anchors()
    assert torch.equal(training.network(SLICES), second)


@torch.no_grad()
def test_starting_values_follow_the_seed() -> None:
    one, same, other = small_training(1), small_training(1), small_training(2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.network.clip.visual.conv1.weight, other.network.clip.visual.conv1.weight)
    assert all(parameter.isfinite().all() for parameter in one.parameters())
    # What attention is meant to begin with: tokens look at tokens like themselves.
    for block in one.network.clip.visual.transformer.resblocks:
        queries, keys, values = block.attn.in_proj_weight.chunk(3)
        product = queries.T @ keys
        assert product.diagonal().mean() > 5 * product[~torch.eye(len(product), dtype=torch.bool)].abs().mean()
        assert (block.attn.out_proj.weight @ values).diagonal().mean() < -0.2


def test_sine_positions_tell_places_apart() -> None:
    places = sine_positions(6, 32)
    likeness = F.normalize(places, dim=1) @ F.normalize(places, dim=1).T
    assert likeness.sub(torch.eye(36)).max() < 0.999
    # Neighbours are alike, and the more so the nearer.
    assert likeness[0, 1] > likeness[0, 3] > likeness[0, 5]
    torch.testing.assert_close(likeness[0, 1], likeness[0, 6])
    assert sine_positions(2, 10).shape == (4, 10)


@torch.no_grad()
def test_autocast_stays_near() -> None:
    exact = small_training(names=NAMES)(SLICES, WHOLE)
    half = small_training(names=NAMES, autocast=True)(SLICES, WHOLE)
    for key in ("words", "auxiliary"):
        assert half[key].dtype == torch.float32
        assert (half[key] - exact[key]).abs().mean() < 0.05 * exact[key].abs().mean()


def test_weight_decay_is_for_matrices() -> None:
    training = small_training(names=NAMES)
    matrices, vectors = parameter_groups(training, 0.1)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in vectors["params"]} == {1}
    assert min(p.ndim for p in matrices["params"]) == 2
    grouped = {id(p) for group in (matrices, vectors) for p in group["params"]}
    assert grouped == {id(p) for p in training.parameters() if p.requires_grad}


def test_batches_for_monais_trainer() -> None:
    batch = {
        "image": SLICES,
        "tokens": WHOLE,
        "label": torch.zeros(3, 1, SIDE**2, PARTS**2, 3),
        "weight": torch.ones(3, 1, SIDE**2, PARTS**2, 1),
    }
    inputs, (label, weight), arguments, options = prepare_windows(batch, "cpu", True, unused=1)
    assert torch.equal(inputs, SLICES)
    assert (label is batch["label"], weight is batch["weight"]) == (True, True)
    assert torch.equal(arguments[0], WHOLE)
    assert options == {}
    found = small_training(names=NAMES)(inputs, *arguments, **options)
    assert ConceptLoss()(found, (label, weight)).isfinite()


def test_unknown_concepts() -> None:
    with pytest.raises(ConfigurationError, match=r"names=\['fracture'\].*lesion"):
        small_training(names=["lesion", "fracture"])
    assert len(small_training().concepts) == len(concepts())


def test_a_trained_network_that_goes_on_keeps_what_it_learns(tmp_path: Path) -> None:
    torch.save(small_training(names=NAMES, seed=3).network.portable_state_dict(), tmp_path / "model.pt")
    training = small_training(names=NAMES, settle=0, start=tmp_path / "model.pt")
    norms = [part for part in training.network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)
    optimizer = torch.optim.AdamW(parameter_groups(training, 0.02), lr=1e-2)
    training(SLICES, WHOLE)["words"].square().mean().backward()
    optimizer.step()
    network = training.network
    network.update_text_anchors()
    torch.save(network.portable_state_dict(), tmp_path / "further.pt")
    other = small_network()
    other.load_weights(model=tmp_path / "further.pt")
    name = "clip.visual.positional_embedding"
    assert not torch.equal(other.state_dict()[name], torch.load(tmp_path / "model.pt", weights_only=True)[name])
    with torch.no_grad():
        assert torch.equal(other(SLICES), network.eval()(SLICES))


def test_training_starts_from_nothing_or_from_a_file(tmp_path: Path) -> None:
    trained = small_training(names=NAMES, seed=3)
    torch.save(trained.network.portable_state_dict(), tmp_path / "model.pt")
    again = ConceptTraining(copy.deepcopy(trained.network), seed=0, names=NAMES, start=tmp_path / "model.pt")
    fresh = ConceptTraining(copy.deepcopy(trained.network), seed=0, names=NAMES)
    weight = trained.network.clip.visual.conv1.weight
    torch.testing.assert_close(again.network.clip.visual.conv1.weight, weight, atol=0, rtol=0)
    assert not torch.equal(fresh.network.clip.visual.conv1.weight, weight)
    trainable = [[name for name, p in one.network.named_parameters() if p.requires_grad] for one in (again, fresh)]
    assert trainable[0] == trainable[1]
    assert len(trainable[0]) > 20
    with pytest.raises(WeightsError, match=r"none\.pt"):
        ConceptTraining(copy.deepcopy(trained.network), start=tmp_path / "none.pt")
