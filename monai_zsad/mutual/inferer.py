"""The two inferers of a set of scans: features of a scan's slices, and the map of a scan against other scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.inferers.planes import volume_planes
from monai_zsad.mutual.features import DenseFeatures
from monai_zsad.mutual.fusion import FUSIONS, fused
from monai_zsad.mutual.matching import ComparedScan, Kind, body_heights, scan_kind
from monai_zsad.mutual.scoring import aggregate, interval_mean, nearest_distances
from monai_zsad.mutual.store import StoredScan
from monai_zsad.networks.maps import map_and_score
from monai_zsad.transforms import BodyMask

__all__ = ["MutualInferer"]

_META = ("source_files", "modality", "intensity")

Features = Callable[[torch.nn.Module, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
_DEFAULT = DenseFeatures()


class MutualInferer(VolumeSliceInferer):
    """Score the slices of a volume against slices of other scans at about the same height in the body.

    :class:`~monai_zsad.inferers.VolumeSliceInferer` was not enough: its network sees one slice, but here the map of a
    slice depends on other scans. Choice of the slices, planes, and interpolation of slices that were left out are the
    same. The map is MuSc's: the distance of each token to the nearest token in each other scan, the mean of the
    smallest distances over the scans, the mean over layers and degrees; half of it, so that it lies in [0, 1].

    :meth:`extract` computes the features, which are kept.

    Args:
        degrees: sides of the neighbourhoods that are aggregated, odd numbers.
        interval: part of the sorted distances that is averaged: two fractions in [0, 1].
        height_slices: how many slices of each other scan a slice is compared with: those nearest in height.
        fuse: ``"none"``, or how the map is combined with the one of the network's prompts, see
            :func:`~monai_zsad.mutual.fusion.fused`. Scores of slices are not fused.
        features: gives tokens (layers, B, N, C) and embeddings (B, E) of slices (B, C, H, W).
        **options: of :class:`~monai_zsad.inferers.VolumeSliceInferer`.

    Attributes:
        compare: gives, for a volume, its stored features (None computes them) and the scans to compare it with. A run
            sets it.

    Raises:
        ConfigurationError: if an argument cannot be used. Slices cannot be run in windows.

    References:
        Li et al., MuSc, ICLR 2024, arXiv 2401.16753.
    """

    def __init__(
        self,
        degrees: Sequence[int] = (1, 3, 5),
        interval: Sequence[float] = (0.0, 0.3),
        height_slices: int = 3,
        fuse: str = "none",
        features: Features = _DEFAULT,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if self.token_spacing_mm is not None or self.roi_size is not None:
            raise ConfigurationError(
                "token_spacing_mm cannot be used when scans are compared with one another, since whole slices are "
                "compared; leave it out"
            )
        if not degrees or any(int(degree) != degree or degree < 1 or degree % 2 == 0 for degree in degrees):
            raise ConfigurationError(f"degrees={degrees!r} cannot be used: give odd numbers, such as [1, 3, 5]")
        if len(interval) != 2 or not 0 <= interval[0] < interval[1] <= 1:
            raise ConfigurationError(f"interval={interval!r} cannot be used: give two fractions, such as [0, 0.3]")
        if height_slices < 1:
            raise ConfigurationError(f"height_slices={height_slices!r} cannot be used: give 1 or more")
        if fuse not in FUSIONS:
            raise ConfigurationError(f"fuse={fuse!r} cannot be used: choose {', '.join(FUSIONS)}")
        self.degrees = [int(degree) for degree in degrees]
        self.interval = (float(interval[0]), float(interval[1]))
        self.height_slices = int(height_slices)
        self.fuse = fuse
        self.features = features
        self.compare: Callable[[torch.Tensor], tuple[StoredScan | None, Sequence[ComparedScan]]] = _alone

    def describe_features(self) -> dict[str, Any]:
        """Which features are computed, as plain values, for the key of the store."""
        return asdict(self.features) if isinstance(self.features, DenseFeatures) else {}

    def describe(self) -> dict[str, Any]:
        """The method and its settings, as plain values, for the description of the model."""
        settings = {name: getattr(self, name) for name in ("degrees", "interval", "height_slices")}
        return {"method": "MuSc", **settings, "features": self.describe_features()}

    def aggregated(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens of a slice, aggregated for each degree.

        Args:
            tokens: (layers, N, C).

        Returns:
            (degrees, layers, N, C), normalised, float16.
        """
        exact = tokens.to(self.device or tokens.device, torch.float32)
        return self.loaded(torch.stack([aggregate(exact, degree) for degree in self.degrees]))

    def loaded(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens on the device of the products, in float16, since many slices are held at once.

        Args:
            tokens: of any shape.

        Returns:
            The same tokens.
        """
        return tokens.to(self.device or tokens.device, torch.float16)

    def compared(self, scan: StoredScan) -> ComparedScan:
        """A scan of the store as one to compare with.

        Args:
            scan: with its features.

        Returns:
            The scan; its tokens are read and aggregated when they are needed.
        """
        read = scan.tokens()
        return ComparedScan(scan.heights, scan.planes, lambda number: self.aggregated(read(number)))

    def kind_of(self, inputs: torch.Tensor) -> Kind:
        """The kind of a volume.

        Args:
            inputs: (1, C, X, Y, Z), prepared.

        Returns:
            The kind, by its meta data.
        """
        meta = inputs.meta if isinstance(inputs, MetaTensor) else {}
        files, modality, intensity = (str(_first(meta.get(name)) or "") for name in _META)
        names = [plane.name for plane in volume_planes(inputs, self.planes)[0]]
        return scan_kind(files.split("\n"), modality, intensity, names, inputs.shape[1])

    def extract(self, inputs: torch.Tensor, network: torch.nn.Module) -> dict[str, Any]:
        """Features of the slices of one volume that :meth:`__call__` would run.

        Args:
            inputs: (1, C, X, Y, Z), prepared.
            network: gives the features.

        Returns:
            What :class:`~monai_zsad.mutual.store.SaveFeaturesd` writes, with a leading axis of 1.

        Raises:
            InputError: if no slice holds enough of the body.
        """
        found: list[tuple[torch.Tensor, torch.Tensor]] = []

        def record(slices: torch.Tensor) -> torch.Tensor:
            tokens, embeddings = self.features(network, slices)
            found.append((tokens.transpose(0, 1).to("cpu", torch.float16), embeddings.float().cpu()))
            return slices.new_zeros(len(slices), 2, *slices.shape[-2:])

        self._run(inputs, record)
        if not found:
            raise InputError(
                f"no slice has a foreground of at least {self.min_foreground:g}: give a smaller min_foreground"
            )
        tokens, embeddings = (torch.cat(parts) for parts in zip(*found, strict=True))
        heights, planes = self._places(inputs)
        arrays = {"tokens": tokens, "embeddings": embeddings, "heights": heights, "planes": planes}
        return {**{name: array[None] for name, array in arrays.items()}, "kind": [self.kind_of(inputs).as_json()]}

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Score one volume against others.

        Args:
            inputs: (1, C, X, Y, Z), prepared.
            network: gives features of slices, and with ``fuse`` the map of its prompts.
            args: for the network's map.
            kwargs: for the network's map.

        Returns:
            (1, 2, X, Y, Z), as of :class:`~monai_zsad.inferers.VolumeSliceInferer`.

        Raises:
            InputError: if there is nothing to compare with.
        """
        own, others = self.compare(inputs)
        heights, planes = self._places(inputs) if own is None else (own.heights, own.planes)
        stored = None if own is None else own.tokens()
        done = 0

        def score(slices: torch.Tensor) -> torch.Tensor:
            nonlocal done
            numbers = range(done, done + len(slices))
            if stored is None:
                tokens = self.features(network, slices)[0].transpose(0, 1)  # type: ignore[arg-type]
            else:
                tokens = torch.stack([stored(number) for number in numbers])
            maps = torch.stack(
                [
                    self._scored(one, others, float(heights[number]), int(planes[number]))
                    for one, number in zip(tokens, numbers, strict=True)
                ]
            )
            size = slices.shape[-2:]
            large = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=True)[:, 0].to(slices.device)
            # A batch that did not fit into memory is repeated.
            done += len(slices)
            return map_and_score(large, large.amax((1, 2)), size)

        result = self._run(inputs, score)
        if self.fuse != "none":
            prompted = super().__call__(inputs, network, *args, **kwargs)[:, 0].to(result.device)
            body = torch.as_tensor(BodyMask()(inputs[0])).to(result.device, torch.bool)
            run = result[:, 1].amax((1, 2)) > 0
            result[:, 0] = fused(result[:, 0], prompted, body & run[0], self.fuse) * run[:, None, None]
        return result

    def _run(self, inputs: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        if len(inputs) != 1:
            raise ConfigurationError(f"inputs hold {len(inputs)} volumes: one volume at a time can be compared")
        return super().__call__(inputs, function)

    def _places(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Heights and planes of the slices that are run, in their order."""
        volume = inputs[0].as_tensor() if isinstance(inputs, MetaTensor) else inputs[0]
        planes = volume_planes(inputs, self.planes)[0]
        runs = [indices for _, indices in self._chosen(volume, planes)]
        heights = [body_heights(volume, plane.axis, run) for plane, run in zip(planes, runs, strict=True)]
        return torch.cat(heights), torch.cat([torch.full((len(run),), number) for number, run in enumerate(runs)])

    def _scored(self, tokens: torch.Tensor, others: Sequence[ComparedScan], height: float, plane: int) -> torch.Tensor:
        """The map (g, g) in [0, 1] of a slice's tokens (layers, g * g, C)."""
        queries = self.aggregated(tokens)
        near = [one.near(height, plane, self.height_slices) for one in others]

        def distances(query: torch.Tensor, degree: int, layer: int) -> torch.Tensor:
            """(n, N) from the tokens (N, C) of a slice to the nearest ones in each of n scans."""
            found = [[nearest_distances(query[None], one[degree, layer][None])[0, 0] for one in own] for own in near]
            return torch.stack([torch.stack(own).amin(0) for own in found])

        scores = [
            interval_mean(distances(query, degree, layer), self.interval)
            for degree, layers in enumerate(queries)
            for layer, query in enumerate(layers)
        ]
        side = round(tokens.shape[1] ** 0.5)
        return (torch.stack(scores).float().mean(0) / 2).clamp(0, 1).view(side, side)


def _alone(inputs: torch.Tensor) -> tuple[StoredScan | None, Sequence[ComparedScan]]:  # noqa: ARG001
    raise InputError("this method compares a scan with others: run the bundle on a folder of scans")


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value
