"""Run several methods on one scan and show their maps side by side. Methods with the same CLIP share its features."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import nn

from monai_zsad._version import __version__
from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.networks import SharedNetworks, ZeroShotNetwork
from monai_zsad.transforms import VolumeScored
from monai_zsad.writers import (
    SEEDED_WARNING,
    UNFAMILIAR_WARNING,
    CaseLayout,
    atomic_path,
    comparison_figure,
    is_seeded,
    save_comparison_figure,
    suspicious_slices,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "check_comparison_output", "compare_methods"]

SCHEMA_VERSION = 1
_POSTFIX = "comparison"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Results of several methods on one scan, on the networks' grid: upright slices along the third axis.

    The number of a slice is its number in the scan's file. Figures and other programs use the same number.

    Attributes:
        case: id of the scan.
        image: the scan as the networks get it, (C, X, Y, Z) in [0, 1].
        maps: anomaly maps (1, X, Y, Z) in [0, 1], by method; 0 in slices that were not run.
        slice_scores: by method, one dictionary per slice of the third axis: ``slice`` (number in the scan's file),
            ``position_mm`` (RAS), ``score``, ``scored`` (False if the slice was not run).
        volume_scores: score of the volume, by method; None if only some slices were requested.
        models: :meth:`ZeroShotNetwork.describe`, by method.
        groups: groups of methods that shared one pass through CLIP.
        asked: numbers of the requested slices; None for all.
        unfamiliar: methods that were trained on scans unlike this one, as far as they tell.
    """

    case: str
    image: MetaTensor
    maps: Mapping[str, MetaTensor]
    slice_scores: Mapping[str, Sequence[Mapping[str, Any]]]
    volume_scores: Mapping[str, float | None]
    models: Mapping[str, Mapping[str, Any]]
    groups: tuple[tuple[str, ...], ...]
    asked: tuple[int, ...] | None = None
    unfamiliar: tuple[str, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """Number of each slice in the scan's file."""
        return [int(entry["slice"]) for entry in next(iter(self.slice_scores.values()))]

    @property
    def seeded(self) -> list[str]:
        """Methods that ran with random weights. Their maps are not a result."""
        return [name for name, model in self.models.items() if is_seeded(model)]

    def chosen(self, count: int = 3) -> list[int]:
        """Numbers of the slices to draw: the requested slices, or the most suspicious ones for all methods together."""
        if self.asked is not None:
            return list(self.asked)
        spacing = float(np.linalg.norm(self.image.affine.cpu().numpy()[:3, 2]))
        heats = {name: heat[0].cpu().numpy() for name, heat in self.maps.items()}
        return [self.numbers[index] for index in suspicious_slices(heats, count, spacing)]

    def figure(self, slice_number: int, *, limits: tuple[float, float] = (0.0, 1.0)) -> Figure:
        """Draw the slice, and beside it the slice with the map and the score of each method.

        Args:
            slice_number: number in the scan's file.
            limits: map values where the colours begin and end, the same for all methods.

        Raises:
            ConfigurationError: the scan does not have this slice.
        """
        index = _index_of(self.numbers, slice_number)
        entries = {name: entries[index] for name, entries in self.slice_scores.items()}
        window = self.image.meta.get("intensity")
        banner = f"NOT A RESULT ({', '.join(self.seeded)}): {SEEDED_WARNING}" if self.seeded else ""
        return comparison_figure(
            self.image,
            self.maps,
            index,
            scores={name: f"slice score {e['score']:.3f}" if e["scored"] else "not run" for name, e in entries.items()},
            title=f"{self.case};   window: {window}" if window else self.case,
            limits=limits,
            banner=banner,
        )

    def save(
        self,
        output_dir: str | os.PathLike[str],
        count: int = 3,
        *,
        limits: tuple[float, float] = (0.0, 1.0),
        overwrite: bool = False,
    ) -> list[Path]:
        """Write ``<case>/comparison_<slice>.png`` of every chosen slice, and ``comparison.json``.

        Args:
            output_dir: folder of the results.
            count: see :meth:`chosen`.
            limits: see :meth:`figure`.
            overwrite: replace an earlier comparison of the case, with all its figures.

        Returns:
            The files. The JSON is written last, so the comparison is complete if it exists.

        Raises:
            OutputError: files exist and ``overwrite`` is false, or files cannot be written.
        """
        stale = check_comparison_output(output_dir, self.case, overwrite=overwrite)
        numbers = self.chosen(count)
        files = [_layout(output_dir, f"{number:03d}").filename(subject=self.case) for number in numbers]
        for number, file in zip(numbers, files, strict=True):
            save_comparison_figure(self.figure(number, limits=limits), file)
        report = CaseLayout(output_dir, _POSTFIX, ".json").filename(subject=self.case)
        content = self.report() | {"pictures": {number: f.name for number, f in zip(numbers, files, strict=True)}}
        with atomic_path(report) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        for file in set(stale) - {*files, report}:
            file.unlink(missing_ok=True)
        return [*files, report]

    def report(self) -> dict[str, Any]:
        """Content of the JSON: methods with weights and scores, shared passes through CLIP, versions, warnings."""
        import monai

        return {
            "schema_version": SCHEMA_VERSION,
            "case": self.case,
            "methods": {
                name: {
                    "model": dict(self.models[name]),
                    "volume_score": self.volume_scores[name],
                    "slice_scores": [dict(entry) for entry in self.slice_scores[name]],
                }
                for name in self.maps
            },
            "shared_passes": [list(group) for group in self.groups],
            "software": {"monai_zsad": __version__, "monai": monai.__version__, "torch": torch.__version__},
            "warnings": [f"{name}: {SEEDED_WARNING}" for name in self.seeded]
            + [f"{name}: {UNFAMILIAR_WARNING}" for name in self.unfamiliar],
        }

    def table(self, numbers: Sequence[int] | None = None) -> str:
        """Scores of slices (None: the requested slices) and of the volume: one line each, one column per method."""
        entries = dict(zip(self.numbers, zip(*self.slice_scores.values(), strict=True), strict=True))
        rows = [["slice", "position (mm, RAS)", *self.maps]]
        for number in (self.numbers if self.asked is None else self.asked) if numbers is None else numbers:
            place = ", ".join(f"{mm:.1f}" for mm in entries[number][0]["position_mm"])
            scores = [f"{entry['score']:.3f}" if entry["scored"] else "not run" for entry in entries[number]]
            rows.append([str(number), place, *scores])
        if self.asked is None:
            rows.append(["volume", "", *(f"{score:.3f}" for score in self.volume_scores.values())])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def compare_methods(
    networks: Mapping[str, ZeroShotNetwork],
    scan: torch.Tensor,
    *,
    slices: Sequence[int] | None = None,
    inferer: Inferer | None = None,
    volume_score: str = "top_k_mean",
    case: str = "scan",
) -> Comparison:
    """Run several methods on one scan.

    Networks with the same CLIP (Crane, Crane+ and AnomalyCLIP as released) get their features from one pass, see
    :class:`~monai_zsad.networks.SharedNetworks`. AA-CLIP changes features inside CLIP, and AnoCLIP has another CLIP.
    These two need their own passes.

    Args:
        networks: networks with loaded weights, by name.
        scan: (C, X, Y, Z) in [0, 1] from a bundle's ``preprocessing``, with upright slices along the third axis. For
            files, see :class:`~monai_zsad.evaluation.comparison.bundles.ComparedBundles`.
        slices: numbers of the slices to run, as in the scan's file; None for all. If the map of a slice depends on its
            neighbours (several planes, smoothing through slices), all slices are run.
        inferer: runs a network over the volume; None for a :class:`~monai_zsad.inferers.VolumeSliceInferer`.
        volume_score: see :func:`~monai_zsad.transforms.volume_score`.
        case: id of the scan.

    Raises:
        ConfigurationError: there is no network, or the scan does not have one of the slices.
        InputError: the scan cannot be used, no slice holds foreground, or a network's weights were not loaded.

    Example:
        >>> from monai_zsad.networks import AnomalyCLIP, Crane
        >>> config = {"embed_dim": 32, "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14},
        ...           "text_cfg": {"width": 32, "heads": 1, "layers": 10}}
        >>> networks = {"crane": Crane(config, 28), "anomalyclip": AnomalyCLIP(config, 28)}
        >>> _ = [network.load_weights(clip="seed:0", prompts="seed:0") for network in networks.values()]
        >>> comparison = compare_methods(networks, MetaTensor(torch.rand(1, 30, 30, 4)), slices=[1, 2])
        >>> comparison.groups, comparison.maps["crane"].shape, comparison.seeded
        ((('crane', 'anomalyclip'),), torch.Size([1, 30, 30, 4]), ['crane', 'anomalyclip'])
        >>> figure = comparison.figure(1)
    """
    together = SharedNetworks(networks)
    image = scan if isinstance(scan, MetaTensor) else MetaTensor(scan)
    scorer = VolumeScored("pred", "image", method=volume_score)
    # The numbers of the slices are needed before the first map exists, so they come from an empty result.
    blank = torch.ones(1).expand(2, *image.shape[1:])
    numbers = [int(entry["slice"]) for entry in scorer({"pred": blank, "image": image})["slice_scores"]]
    inferer = VolumeSliceInferer() if inferer is None else inferer
    volume = image[None]
    if slices is not None:
        if isinstance(inferer, VolumeSliceInferer):
            inferer = copy.copy(inferer)
            inferer.slice_spacing_mm = None  # each requested slice is run
        volume = _only(volume, [_index_of(numbers, number) for number in slices], inferer)
    quiet = copy.copy(inferer)
    quiet.progress = False  # MONAI's own inferers ignore it
    leaders = {group[0] for group in together.groups}

    def run(name: str, network: nn.Module) -> torch.Tensor:
        return (inferer if name in leaders else quiet)(volume, network)

    with torch.no_grad():
        results = {name: MetaTensor(pred[0]).copy_meta_from(image) for name, pred in together.infer(run).items()}
    scored = {name: scorer({"pred": pred, "image": image}) for name, pred in results.items()}
    return Comparison(
        case=case,
        image=image,
        maps={name: pred[:1] for name, pred in results.items()},
        slice_scores={name: found["slice_scores"] for name, found in scored.items()},
        volume_scores={name: found["volume_score"] if slices is None else None for name, found in scored.items()},
        models={name: network.describe() for name, network in together.networks.items()},
        groups=together.groups,
        asked=None if slices is None else tuple(dict.fromkeys(slices)),
        unfamiliar=tuple(name for name, found in scored.items() if found.get("unfamiliar")),
    )


def check_comparison_output(output_dir: str | os.PathLike[str], case: str, *, overwrite: bool = False) -> list[Path]:
    """Make the folder of the case. Check before the first slice is computed that no files would be overwritten.

    Returns:
        Files of an earlier comparison of the case.

    Raises:
        OutputError: there is an earlier comparison and ``overwrite`` is false, or the folder cannot be made.
    """
    folder = _layout(output_dir, "").filename(subject=case).parent
    there = [file for ending in (".json", "_*.png") for file in folder.glob(f"{_POSTFIX}{ending}")]
    if there and not overwrite:
        raise OutputError(
            f"{folder} already holds a comparison of {case}: add --overwrite (overwrite=True) to replace it, or give "
            "another --output"
        )
    return there


def _layout(output_dir: str | os.PathLike[str], number: str) -> CaseLayout:
    return CaseLayout(output_dir, f"{_POSTFIX}_{number}", ".png", makedirs=True)


def _index_of(numbers: Sequence[int], number: int) -> int:
    if number not in numbers:
        raise ConfigurationError(
            f"slice {number} is not in the scan as the networks see it, which has {min(numbers)} to {max(numbers)}"
        )
    return numbers.index(number)


def _only(volume: MetaTensor, indices: Sequence[int], inferer: Inferer) -> MetaTensor:
    """Empty all other slices, if the inferer then skips them and the map of a slice depends on this slice alone."""
    alone = isinstance(inferer, VolumeSliceInferer) and inferer.planes is None and inferer.smooth_slices_mm is None
    if not alone or inferer.min_foreground <= 0 or inferer.foreground_threshold < 0:
        return volume
    only = torch.zeros_like(volume)
    only[..., list(indices)] = volume[..., list(indices)]
    return only
