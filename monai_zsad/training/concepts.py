"""Training of the included model: every pixel is compared with prompts that name concepts, and with their denials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from monai_zsad.backbones.weights import read_state_dict
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.networks.aaclip import SIMILARITY_SCALE
from monai_zsad.networks.maps import l2_normalize
from monai_zsad.networks.screening_clip import ScreeningCLIP
from monai_zsad.prompts import concepts
from monai_zsad.training.pretrained import load_encoder

__all__ = ["ConceptTraining", "concept_logits", "initialize_small_clip", "parameter_groups", "prepare_slices"]


class ConceptTraining(nn.Module):
    """Training network that gives logits of each concept for the pixels of the map. Inference uses ``network`` only.

    AA-CLIP adapts a CLIP that was trained with images and captions. Here both towers are trained with segmentation
    only. Each pixel of the map is compared with prompts that describe a concept ("a FLAIR image of a brain with a small
    hyperintense lesion") and with prompts that deny it. Wording, anatomy and modality are drawn again at every step.

    At first, batch normalisation uses the statistics of the batch. Inference uses the running statistics, which differ,
    as a step holds few slices. After ``settle`` steps, training uses the running statistics too, and no longer changes
    them. Several processes use the mean of theirs from then on.

    Args:
        network: network to train; its values are overwritten.
        seed: random seed of the initial values and of the prompts.
        names: concepts; default: all of :func:`monai_zsad.prompts.concepts`.
        sentences: number of prompts per concept and kind. Their mean feature is the anchor.
        settle: number of steps after which the statistics of batch normalisation are fixed. Use 0 if ``start`` is a
            model with useful statistics.
        pretrained: ImageNet weights of the encoder, see :func:`~monai_zsad.training.pretrained.load_encoder`.
        start: file of a trained model. What it has with the same name and shape is taken. Of the model before this
            vision tower, these are the text tower, and its first two convolutions become those for details. By default
            training starts from random values.
        compiled: compile the comparison with the prompts. It needs a C++ compiler on CPUs.

    Raises:
        ConfigurationError: a concept is unknown.
        WeightsError: ``pretrained`` or ``start`` is missing or damaged, or has nothing that fits.
    """

    part = "network"
    files: tuple[str, ...] = ()
    optimizer_key = None
    caches = False

    def __init__(
        self,
        network: ScreeningCLIP,
        seed: int = 0,
        *,
        names: Sequence[str] | None = None,
        sentences: int = 2,
        settle: int = 1200,
        pretrained: str | Path | None = "none",
        start: str | Path | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        known = concepts()
        if unknown := [name for name in names or () if name not in known]:
            raise ConfigurationError(f"names={unknown}: unknown concepts; choose from {', '.join(known)}")
        self.network = network
        self.concepts = [known[name] for name in (names or known)]
        self.sentences = sentences
        self.seed = seed
        self.settle = settle
        self._compare = torch.compile(concept_logits) if compiled else concept_logits
        self._stale = True
        initialize_small_clip(network, seed)
        load_encoder(network, pretrained)
        if start is not None:
            _take_what_fits(network, Path(start))

    @property
    def learned(self) -> nn.Module:
        """Everything is trained."""
        return self

    def forward(self, slices: torch.Tensor, step: torch.Tensor | int | None = None) -> torch.Tensor:
        """Logits of the concepts in training mode; the network's output in evaluation mode.

        Args:
            slices: (B, 3, S, S) in [0, 1].
            step: number of the step, from 0. It determines the prompts. Only for training mode.

        Returns:
            In training mode, logits (B, S/2, S/2, concepts), float32. In evaluation mode, see
            :meth:`ScreeningCLIP.forward`.
        """
        if not self.training or step is None:
            if self._stale:
                self.network.update_text_anchors()
                self._stale = False
            return self.network(slices)
        self._stale = True
        self._settle(int(step))
        features, _ = self.network.dense_features(self.network.normalize(slices))
        return self._compare(features.float(), self.anchors(int(step)))

    def anchors(self, step: int) -> torch.Tensor:
        """Anchors (concepts, 2, D) of the prompts of a step: normal first, l2-normalised, with gradients."""
        rng = np.random.default_rng([self.seed, step])
        drawn = [s for concept in self.concepts for kind in concept.sentences(self.sentences, rng) for s in kind]
        clip, adapter = self.network.clip, self.network.text_adapter[-1]
        ids = clip.tokenize(drawn)
        end = ids.argmax(-1)
        # The text tower is causal, so tokens after the longest prompt do not change any feature.
        length = int(end.max()) + 1
        features = adapter(clip.text_tokens(clip.embed_tokens(ids[:, :length]), end)).float()
        grouped = l2_normalize(features).unflatten(0, (len(self.concepts), 2, self.sentences))
        return l2_normalize(grouped.mean(2))

    def _settle(self, step: int) -> None:
        norms = [part for part in self.network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        if step == self.settle and dist.is_initialized():
            for norm in norms:
                for value in (norm.running_mean, norm.running_var):
                    if value is not None:
                        dist.all_reduce(value)
                        value /= dist.get_world_size()
        for norm in norms:
            norm.train(step < self.settle)


def concept_logits(features: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Logits (B, H, W, concepts) of features (B, D, H, W), with anchors (concepts, 2, D): normal, abnormal.

    >>> concept_logits(torch.ones(1, 2, 1, 1), torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.6, 0.8]]]))
    tensor([[[[ 0.0000, 28.2843]]]])
    """
    normal, abnormal = anchors.unbind(1)
    return l2_normalize(features.movedim(1, -1)) @ (SIMILARITY_SCALE * (abnormal - normal)).T


def initialize_small_clip(network: ScreeningCLIP, seed: int) -> None:
    """Random initial values of a small network for training from nothing. All that is used can be trained afterwards.

    Args:
        network: network to initialise. All its parameters are overwritten.
        seed: random seed. The same seed gives the same values.

    References:
        He et al., "Delving Deep into Rectifiers", ICCV 2015 (convolutions); Radford et al., "Language Models are
        Unsupervised Multitask Learners", 2019 (blocks of the text tower).
    """
    generator = torch.Generator().manual_seed(seed)
    clip = network.clip
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(True)
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        for unused in (clip.logit_scale, clip.text_projection):
            unused.requires_grad_(False)
        for module in clip.visual.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        width = clip.text_width
        deep = (2 * width * clip.text_depth) ** -0.5
        for block in clip.transformer.resblocks:
            block.attn.in_proj_weight.normal_(0, width**-0.5, generator=generator)
            block.attn.out_proj.weight.normal_(0, deep, generator=generator)
            block.mlp.c_fc.weight.normal_(0, (2 * width) ** -0.5, generator=generator)
            block.mlp.c_proj.weight.normal_(0, deep, generator=generator)
        clip.token_embedding.weight.normal_(0, 0.05, generator=generator)
        (projection,) = network.text_adapter[-1].parameters()
        projection.normal_(0, projection.shape[1] ** -0.5, generator=generator)


def parameter_groups(training: ConceptTraining, learning_rate: float, encoder: float = 0.5) -> list[dict[str, Any]]:
    """Trainable parameters for an optimizer, with a lower learning rate for the encoder, which was trained before.

    Args:
        training: training network.
        learning_rate: learning rate of all other parameters.
        encoder: factor of the encoder's learning rate.
    """
    trained = [parameter for parameter in training.parameters() if parameter.requires_grad]
    slow = {id(parameter) for parameter in training.network.clip.visual.encoder.parameters()}
    return [
        {"params": [one for one in trained if id(one) not in slow], "lr": learning_rate},
        {"params": [one for one in trained if id(one) in slow], "lr": encoder * learning_rate},
    ]


def prepare_slices(
    batch: Mapping[str, torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor], dict[str, Any]]:
    """MONAI's ``prepare_batch`` for :class:`monai_zsad.training.slices.batches.TrainingBatches`."""
    del kwargs
    image, label, weight = (batch[key].to(device, non_blocking=non_blocking) for key in ("image", "label", "weight"))
    return image, (label.float(), weight.float()), (batch["step"],), {}


def _take_what_fits(network: ScreeningCLIP, file: Path) -> None:
    own = network.state_dict()
    state = _renamed(read_state_dict(file))
    fitting = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    if not fitting:
        raise WeightsError(f"{file} has nothing that fits this network: give a model of this bundle, or no --start")
    network.load_state_dict(fitting, strict=False)


def _renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The convolutions at half the resolution of the earlier network under their present names.

    Statistics of batch normalisation are left out. The first channels were slice, below, above; now the slice is
    between its neighbours.
    """
    found = dict(state)
    for name in [key for key in state if key.startswith("at_half.") and key.endswith(("weight", "bias"))]:
        found[name.replace("at_half", "clip.visual.detail")] = found.pop(name)
    first = "clip.visual.detail.0.conv.weight"
    if first in found and first not in state and found[first].shape[1] == 6:
        found[first] = found[first][:, [1, 0, 2, 3, 4, 5]]
    return found
