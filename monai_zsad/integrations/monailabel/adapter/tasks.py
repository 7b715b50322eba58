"""Inference tasks for MONAI Label: one for levels of suspicion, one for the heat map."""

# MONAI Label has its own environment; mypy runs in one without it.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list, name_to_device, strtobool

from monai_zsad.errors import ConfigurationError
from monai_zsad.integrations.monailabel.levels import LEVELS
from monai_zsad.integrations.monailabel.screener import EXTENSIONS, Screened, screen_image, write_volume
from monai_zsad.integrations.monailabel.served import ServedBundle
from monai_zsad.writers import save_segmentation

__all__ = ["HeatMapTask", "LevelsTask"]

_SEGMENTATION = ".seg.nrrd"


class _ScreeningTask(InferTask):
    """Base of both tasks.

    MONAI Label's ``BasicInferTask`` was not enough: all requests share one network and one set of transforms.
    """

    def __init__(self, bundle: ServedBundle, kind: InferType, labels: dict[str, int], description: str) -> None:
        super().__init__(
            type=kind,
            labels=labels,
            dimension=3,
            description=description,
            config={"device": device_list(), **bundle.panel},
        )
        self.bundle = bundle

    def is_valid(self) -> bool:
        """Whether the task can answer a request without a download."""
        return self.bundle.has_weights()

    def get_path(self, validate: bool = True) -> str | None:
        """Return the file of converted weights, which MONAI Label's model endpoint serves."""
        file = self.bundle.folder / "models" / "model.pt"
        return str(file) if file.is_file() or not validate else None

    def info(self) -> dict[str, Any]:
        """Return MONAI Label's description of the task, with the bundle's version."""
        return {**super().info(), "version": self.bundle.metadata.get("version")}

    def __call__(self, request: Mapping[str, Any], callbacks: Any = None) -> tuple[str, dict[str, Any]]:
        """Screen the image of a request.

        Args:
            request: ``image``, ``device``, the options of the panel, and MONAI Label's ``result_extension``,
                ``result_dtype`` and ``result_compress``.
            callbacks: not used; MONAI Label needs them for chains of tasks.

        Returns:
            The file of the result, and the parameters for the client.
        """
        del callbacks
        image = Path(request["image"])
        extension = str(request.get("result_extension") or _extension(image.name))
        self.check_extension(extension)
        case = str(request.get("image_id") or image.name)
        device = name_to_device(request.get("device"))
        screened = screen_image(self.bundle, image, request, case=case, device=device)
        with tempfile.NamedTemporaryFile(suffix=extension, delete=False) as file:
            target = Path(file.name)
        names = self.write(screened, target, request)
        return str(target), {**screened.params, "label_names": names}

    def check_extension(self, extension: str) -> None:
        """Check, before the computation, that the result can be written in this format.

        Raises:
            ConfigurationError: if it cannot.
        """
        if extension not in EXTENSIONS:
            raise ConfigurationError(f"result_extension={extension!r} is not supported: choose {', '.join(EXTENSIONS)}")

    @abstractmethod
    def write(self, screened: Screened, target: Path, request: Mapping[str, Any]) -> dict[str, int]:
        """Write the result. Returns the value of each label by its name."""


class LevelsTask(_ScreeningTask):
    """Candidates as a label map of their levels; with the ending ``.seg.nrrd``, one segment for each candidate.

    Args:
        bundle: the bundle that the server offers.
    """

    def __init__(self, bundle: ServedBundle) -> None:
        description = "Lesion candidates by level of suspicion. " + str(bundle.metadata.get("description", ""))
        super().__init__(bundle, InferType.SEGMENTATION, dict(LEVELS), description.strip())

    def check_extension(self, extension: str) -> None:
        """Check the format. Candidates can also be written as ``.seg.nrrd``."""
        if extension != _SEGMENTATION:
            super().check_extension(extension)

    def write(self, screened: Screened, target: Path, request: Mapping[str, Any]) -> dict[str, int]:
        """Write the label map."""
        if target.name.endswith(_SEGMENTATION):
            save_segmentation(screened.labels, screened.candidates, target, screened.affine)
            return {f"Candidate {found.id}": found.id for found in screened.candidates}
        chosen = screened.options.label_values
        forced = str(request.get("result_dtype")) == "uint8" and not _flag(request.get("save_label"))
        values, names = screened.levels(compact=chosen == "compact" or (chosen == "auto" and forced))
        write_volume(values, screened.affine, target, compress=_flag(request.get("result_compress")))
        return names


class HeatMapTask(_ScreeningTask):
    """The anomaly map in float32, even if the client asks for ``uint8``: its values lie between 0 and 1.

    Args:
        bundle: the bundle that the server offers.
    """

    def __init__(self, bundle: ServedBundle) -> None:
        description = "Anomaly map with float values in [0, 1]."
        super().__init__(bundle, InferType.OTHERS, {}, description)

    def write(self, screened: Screened, target: Path, request: Mapping[str, Any]) -> dict[str, int]:
        """Write the map."""
        values = np.ascontiguousarray(screened.heat_map)
        write_volume(values, screened.affine, target, compress=_flag(request.get("result_compress")))
        return {}


def _extension(name: str) -> str:
    return next((extension for extension in EXTENSIONS if name.endswith(extension)), EXTENSIONS[0])


def _flag(value: Any) -> bool:
    return bool(strtobool(str(value))) if value not in (None, "") else False
