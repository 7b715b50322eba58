"""The network of the included model: a small CLIP with a convolutional vision tower, and prompts as in AA-CLIP."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from monai_zsad.backbones import Activation
from monai_zsad.backbones.pyramid_tower import PyramidTower
from monai_zsad.backbones.seeds import parse_seed, seeded_state_dict
from monai_zsad.backbones.weights import WeightsRecord, read_state_dict, sha256_of
from monai_zsad.errors import ConfigurationError, WeightsError
from monai_zsad.networks.aaclip import AACLIP, SIMILARITY_SCALE
from monai_zsad.networks.base import Prediction, without_autocast
from monai_zsad.networks.maps import gaussian_weights, grid_to_map, l2_normalize, smooth, smoothing_matrix

__all__ = ["ScreeningCLIP"]


class ScreeningCLIP(AACLIP):
    """AA-CLIP's comparison of pixels with prompts, by a small CLIP for slices with their neighbours.

    The network sees six channels: the slice between its neighbours; the slice minus its local mean (sigma ``fine``)
    and the mean of the neighbours minus its local mean (sigma ``coarse``), both divided by their spread in the body;
    and the rank of each pixel among those of the body (histogram equalisation). So the contrast of a scan has little
    influence.

    The vision tower is a :class:`~monai_zsad.backbones.pyramid_tower.PyramidTower`: an encoder that was trained on
    photographs, and features at half the resolution. The text tower, its last adapter and the comparison with the
    prompts are those of AA-CLIP. So the words of the prompts determine what the map shows.

    The output has a third channel. It says how unlike the training data a slice is: the distance of the deepest
    features to their mean in the training data, along their principal axes, over the limit that was determined on
    validation slices (Lee et al.). Above 1, the slice is outside of what the model was trained on, and its map says
    little.

    Args:
        architecture: ``embed_dim``, ``vision_cfg`` and ``text_cfg`` in open_clip's form. ``vision_cfg`` has
            ``image_size``, ``patch_size`` (only the unit of ``token_spacing_mm``) and ``timm_model_name``.
        image_size: side S of the input in pixels, a multiple of 32.
        score: only ``"map"``: the slice's score comes from its map.
        score_share: fraction of the map's pixels whose mean logit is the slice's score: the highest.
        fine: sigma of the local mean of the slice, in pixels.
        coarse: sigma of the local mean of the neighbours, in pixels.
        foreground: pixels above this value belong to the body.
        **options: ``prompts`` and ``activation`` of :class:`AACLIP`.

    Raises:
        ConfigurationError: if an option cannot be used.

    References:
        Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
        NeurIPS 2018, arXiv 1807.03888.

    >>> vision = {"image_size": 32, "patch_size": 8, "timm_model_name": "tf_efficientnet_lite0"}
    >>> text = {"width": 32, "heads": 1, "layers": 2}
    >>> network = ScreeningCLIP({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text})
    >>> _ = network.load_weights(model="seed:0")
    >>> network(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 3, 32, 32])
    """

    def __init__(
        self,
        architecture: Mapping[str, Any],
        image_size: int | None = None,
        *,
        score: Literal["map"] = "map",
        score_share: float = 0.005,
        fine: float = 4.0,
        coarse: float = 12.0,
        foreground: float = 0.03,
        **options: Any,
    ) -> None:
        plain, encoder = _without_encoder(architecture)
        fixed: dict[str, Any] = {"domain": "none", "levels": [1], "image_blocks": 0, "text_blocks": 0, "score": score}
        super().__init__(plain, image_size, **fixed, **options)
        if score != "map":
            raise ConfigurationError(f"score={score!r}: this network has the score 'map' only")
        if not 0 < score_share <= 1:
            raise ConfigurationError(f"score_share={score_share!r}: give a fraction above 0 and up to 1")
        tower = PyramidTower(encoder, self.clip.embed_dim)
        if self.image_size % tower.coarsest:
            raise ConfigurationError(f"image_size={self.image_size}: give a multiple of {tower.coarsest}")
        self.score_share = score_share
        self.foreground = foreground
        for name, sigma in (("fine_mean", fine), ("coarse_mean", coarse)):
            weights = gaussian_weights(sigma, min(round(3 * sigma), self.image_size - 1))
            self.register_buffer(name, smoothing_matrix(self.image_size, weights, "symmetric"), persistent=False)
        self.fine_mean: torch.Tensor
        self.coarse_mean: torch.Tensor
        self.clip.architecture_config = copy.deepcopy(dict(architecture))
        self.clip.visual = tower.to(memory_format=torch.channels_last)
        del self.image_adapter
        # Values of the shipped file; these are neutral. Rows of the calibration: scale and offset of the logits of the
        # map and of the score.
        self.register_buffer("calibration", torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        self.register_buffer("known_mean", torch.zeros(tower.context_dim))
        self.register_buffer("known_basis", torch.zeros(tower.context_dim, tower.context_dim))
        self.register_buffer("known_limit", torch.ones(()))
        self.calibration: torch.Tensor
        self.known_mean: torch.Tensor
        self.known_basis: torch.Tensor
        self.known_limit: torch.Tensor
        self.requires_grad_(False)
        self.eval()

    def load_weights(  # type: ignore[override]  # one file holds all weights
        self, *, model: str | Path, activation: Activation | None = None, download: bool = True
    ) -> dict[str, WeightsRecord]:
        """Load all weights and compute the text anchors.

        Args:
            model: file with a state dict, as a bundle's ``models/model.pt``, or ``"seed:N"``.
            activation: not used, since the network itself states it.
            download: not used, since this network has no registered weights.

        Raises:
            WeightsError: if the file is missing, damaged or does not fit.
        """
        del activation, download
        seed = parse_seed(model)
        if seed is not None:
            state = dict(self.state_dict()) | seeded_state_dict(dict(self.named_parameters()), seed)
            record = WeightsRecord(name=f"seed:{seed}", sha256="", licence="", activation=None, seed=seed)
        else:
            state = dict(read_state_dict(Path(model)))
            record = WeightsRecord(Path(model).name, sha256_of(Path(model)), "unknown", self.clip.activation)
        try:
            self.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise WeightsError(
                f"{model} does not fit this network ({str(error).splitlines()[-1].strip()}): set the architecture that "
                "it was trained with; a model of an earlier release needs the package of that release"
            ) from error
        self.update_text_anchors()
        self.restore_records({"model": record})
        return self.records

    def speed_up(self) -> None:
        """Merge the batch normalisations into the convolutions: the same up to rounding, in three quarters of the time.

        The state dict has other keys afterwards, so load weights before.
        """
        self.clip.visual.fold()

    def _options(self) -> dict[str, Any]:
        return {"score": self.score, "score_share": self.score_share}

    def _towers(self) -> list[nn.Module]:
        return [self.clip.visual]

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """The six channels (B, 6, S, S) of (B, 3, S, S) in [0, 1]: the slice between its neighbours."""
        below, slices, above = images.float().unbind(1)
        neighbours = (below + above) / 2
        body = (slices > self.foreground).float()
        contrasts = [
            _contrast(image, body, matrix.float())
            for image, matrix in ((slices, self.fine_mean), (neighbours, self.coarse_mean))
        ]
        # Nearly the mean and the spread of the photographs that the encoder was trained on.
        scaled = ((image - 0.45) / 0.225 for image in (below, slices, above))
        return torch.stack([*scaled, *contrasts, _rank(slices, body)], dim=1)

    def dense_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the map's pixels (B, D, S/2, S/2), not normalised, and the context (B, C), see PyramidTower.

        Args:
            images: (B, 6, S, S), normalised.

        Returns:
            Both in the precision of the vision tower.
        """
        return self.clip.visual(images)

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (1, B, (S/2)^2, D) of the map's pixels, l2-normalised, and their mean (B, D)."""
        seg = l2_normalize(self.dense_features(images)[0].flatten(2).transpose(1, 2))
        return seg.unsqueeze(0), l2_normalize(seg.mean(1))

    def unfamiliarity(self, context: torch.Tensor) -> torch.Tensor:
        """How unlike the training data slices are. Above 1, they are outside of them.

        Args:
            context: (B, C), see :meth:`dense_features`.

        Returns:
            (B,), float32.
        """
        return ((context.float() - self.known_mean) @ self.known_basis).norm(dim=1) / self.known_limit

    def predict(self, images: torch.Tensor) -> Prediction:
        """Map, score and unfamiliarity of (B, 6, S, S) normalised images.

        ``details``: ``logits`` (B, S/2, S/2), before calibration, and ``context`` (B, C).
        """
        pixels, context = self.dense_features(images)
        with without_autocast(images.device):
            normal, anomalous = self.text_anchors.float()[0]
            seg = l2_normalize(pixels.flatten(2).transpose(1, 2))
            logits = SIMILARITY_SCALE * (seg @ (anomalous - normal))
            of_map, of_score = self.calibration[0].float(), self.calibration[1].float()
            anomaly_map = torch.sigmoid(grid_to_map(of_map[0] * logits + of_map[1], self.image_size))
            highest = logits.topk(max(1, round(self.score_share * int(logits.shape[1]))), dim=1).values.mean(1)
            score = torch.sigmoid(of_score[0] * highest + of_score[1])
        details = {"logits": logits.unflatten(1, pixels.shape[-2:]), "context": context}
        return Prediction(anomaly_map, score, details, self.unfamiliarity(context))


def _without_encoder(architecture: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The architecture with a ViT of one block, which is replaced, and the name of the encoder."""
    config = copy.deepcopy(dict(architecture)) if isinstance(architecture, Mapping) else {}
    vision = dict(config.get("vision_cfg", {}))
    if "timm_model_name" not in vision:
        raise ConfigurationError(
            "architecture: its vision_cfg has no timm_model_name; set it, for example to tf_efficientnet_lite0. A "
            "bundle of an earlier release needs the package of that release, or take the bundle of this one"
        )
    name = str(vision.pop("timm_model_name"))
    config["vision_cfg"] = vision | {"layers": 1, "width": 64}
    return config, name


def _contrast(images: torch.Tensor, body: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Images (B, S, S) minus their local mean in the body, divided by the spread in the body; 0 outside the body."""
    mean = smooth(images * body, matrix) / smooth(body, matrix).clamp_min(0.05)
    difference = (images - mean) * body
    count = body.sum((1, 2), keepdim=True).clamp_min(1)
    spread = (difference.square().sum((1, 2), keepdim=True) / count).sqrt()
    return (difference / spread.clamp_min(0.01)).clamp(-5, 5)


def _rank(images: torch.Tensor, body: torch.Tensor, steps: int = 64) -> torch.Tensor:
    """Fraction of the body that is darker than each pixel of images (B, S, S) in [0, 1], scaled to [-1, 1].

    It is 0 outside the body. It comes from a histogram of ``steps`` bins with linear interpolation, since sorting
    cannot be exported to every runtime.
    """
    scaled = (images * steps).flatten(1).clamp(0, steps)
    values = scaled.floor().clamp(max=steps - 1)
    places = values.long()
    count = scaled.new_zeros(scaled.shape[0], steps).scatter_add(1, places, body.flatten(1))
    share = count / count.sum(1, keepdim=True).clamp_min(1)
    darker = share.cumsum(1) - share
    rank = darker.gather(1, places) + (scaled - values) * share.gather(1, places)
    return (2 * rank - 1).view_as(images) * body
