"""Prompts for each case, chosen by the modality of the scan."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Engine, Events
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.prompts import PromptEnsemble

__all__ = ["ScanPrompts"]

_logger = logging.getLogger(__name__)


class ScanPrompts:
    """Handler that gives the network the prompts for the modality of each case.

    No handler of MONAI changes prompts. :class:`~monai_zsad.transforms.ScanIntensityd` chooses the intensity window of
    a scan by its modality, and this handler chooses the prompts in the same way. A CT is compared with "a CT scan of
    ...", an MR with "an MRI scan of ...". If the user chose a modality, all scans have its prompts. Some scans keep the
    general prompts: their modality is unknown (it comes from DICOM or from a list of scans), or the prompt set does not
    know it. The log shows the prompts and intensities of each case, and the reason. Put it into ``val_handlers``.

    Args:
        network: network of the bundle. Its weights must be loaded before the run starts.
        named: function that returns the prompts for a modality. ``None`` if the method has no prompts to choose.
        modality: the modality that the user chose for all scans. Then the prompts do not change.

    Example:
        >>> from monai_zsad.networks import AACLIP
        >>> def named(modality):
        ...     return PromptEnsemble.named("medical", modality=modality)
        >>> config = {"embed_dim": 16, "vision_cfg": {"image_size": 16, "layers": 4, "width": 64, "patch_size": 8},
        ...           "text_cfg": {"width": 64, "heads": 1, "layers": 4}}
        >>> prompts = ScanPrompts(AACLIP(config, 16, levels=[4], prompts=named(None)), named)
        >>> prompts.of("CT").sentences[0], prompts.of("").sentences[0]
        ('a CT scan of a normal organ', 'a medical image of a normal organ')
    """

    def __init__(
        self,
        network: ZeroShotNetwork,
        named: Callable[[str | None], PromptEnsemble] | None = None,
        modality: str | None = None,
    ) -> None:
        self.network = network
        self.named = named
        self.modality = modality
        self._general: PromptEnsemble | None = getattr(network, "prompts", None)
        self._known: dict[str, tuple[PromptEnsemble | None, str]] = {}

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator.

        Args:
            engine: the evaluator.
        """
        engine.add_event_handler(Events.ITERATION_STARTED, self._start)

    def of(self, modality: str) -> PromptEnsemble | None:
        """Prompts for a scan of this modality.

        Args:
            modality: a DICOM code, empty if unknown.

        Returns:
            The prompts; ``None`` if the method has no prompts.
        """
        return self._choice(modality)[0]

    def describe(self, modality: str = "") -> dict[str, Any]:
        """Description of the network for a scan of this modality.

        Args:
            modality: a DICOM code, empty if unknown.

        Returns:
            The content of :meth:`ZeroShotNetwork.describe`, with these prompts.
        """
        prompts = self.of(modality)
        content = self.network.describe()
        return content if prompts is None else content | {"prompts": prompts.fingerprint()}

    def _choice(self, modality: str) -> tuple[PromptEnsemble | None, str]:
        """The prompts, and the reason for them."""
        if modality not in self._known:
            self._known[modality] = self._choose(modality)
        return self._known[modality]

    def _choose(self, modality: str) -> tuple[PromptEnsemble | None, str]:
        general = self._general
        if general is None or self.named is None:
            return general, "fixed, because the method has the same prompts for all scans"
        if self.modality is not None:
            return general, f"for {self.modality}, the chosen modality"
        if not modality:
            return general, "general, because the modality of the scan is unknown"
        if self.network.fixed_anchors:
            return general, "general, because runtime_file has fixed text anchors: give --modality"
        try:
            if general != self.named(None):
                return general, "as configured"
            return self.named(modality), f"for {modality}, the modality of the scan"
        except ConfigurationError as error:
            reason = str(error).partition(";")[0]
            return general, f"general ({reason})"

    def _start(self, engine: Engine) -> None:
        batch = engine.state.batch
        if not isinstance(batch, Mapping) or "error" in batch:
            return
        modality = str(_first(batch.get("modality")) or "")
        prompts, why = self._choice(modality)
        image = batch.get("image")
        intensity = _first(image.meta.get("intensity")) if isinstance(image, MetaTensor) else None
        _logger.info("%s: intensities: %s; prompts: %s", _first(batch.get("case")), intensity or "not changed", why)
        if prompts is not None and prompts != getattr(self.network, "prompts", None):
            self.network.prompts = prompts  # type: ignore[assignment]  # a plain attribute of the networks with prompts
            self.network.update_text_anchors()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value
