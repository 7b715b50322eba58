"""Words that follow the scan: prompts of each case by the modality that DICOM tells."""

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
    """Handler that gives the network the prompts of each case's modality, and logs what a case is seen with.

    MONAI's handlers know nothing of words. The window of a scan is chosen by its modality in
    :class:`~monai_zsad.transforms.ScanIntensityd`; here its words are, where the user chose none: a CT is compared with
    "a CT scan of ...", an MR with "an MRI scan of ...". A scan of unknown modality (every format but DICOM, where no
    list tells it) keeps the general words, and so does one whose modality the prompts have no words or no place for.
    The log says for each case which words and intensities were taken and why. Attach by ``val_handlers``.

    Args:
        network: the bundle's network, its weights loaded before the run starts.
        named: gives the prompts of a modality, as the configuration does; ``None`` where the method has no such words.
        modality: what the user chose for all scans; then nothing is changed.

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
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._start)

    def of(self, modality: str) -> PromptEnsemble | None:
        """Prompts of a scan of this modality (DICOM's code; empty where unknown); ``None`` if the method has none."""
        return self._choice(modality)[0]

    def describe(self, modality: str = "") -> dict[str, Any]:
        """What the network says of itself (:meth:`ZeroShotNetwork.describe`), when it runs a scan of this modality."""
        prompts = self.of(modality)
        content = self.network.describe()
        return content if prompts is None else content | {"prompts": prompts.fingerprint()}

    def _choice(self, modality: str) -> tuple[PromptEnsemble | None, str]:
        """Prompts, and why these."""
        if modality not in self._known:
            self._known[modality] = self._choose(modality)
        return self._known[modality]

    def _choose(self, modality: str) -> tuple[PromptEnsemble | None, str]:
        general = self._general
        if general is None or self.named is None:
            return general, "the method's own, the same for all scans"
        if self.modality is not None:
            return general, f"as asked for: {self.modality}"
        if not modality:
            return general, "general, as the scan's modality is not known"
        if self.network.fixed_anchors:
            return general, "general, as runtime_file has them folded in: give --modality"
        try:
            if general != self.named(None):
                return general, "as configured"
            return self.named(modality), f"of {modality}, the scan's modality"
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
        _logger.info("%s: intensities: %s; prompts: %s", _first(batch.get("case")), intensity or "as they are", why)
        if prompts is not None and prompts != getattr(self.network, "prompts", None):
            self.network.prompts = prompts  # type: ignore[assignment]  # a plain attribute of the networks with words
            self.network.update_text_anchors()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value
