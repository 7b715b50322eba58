"""A run that goes on where an earlier one stopped: cases that are complete are left out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from monai_zsad.errors import OutputError
from monai_zsad.inferers.arguments import parse_flag
from monai_zsad.writers import clean_temporaries, fingerprint, is_complete, verify_manifest

__all__ = ["evaluate", "skip_complete"]

_logger = logging.getLogger(__name__)


def skip_complete(
    dataset: Any,
    output_dir: str | os.PathLike[str],
    resume: bool | str,
    overwrite: bool | str,
    describe: Callable[[str], Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> list[str]:
    """Take out of a data set what an earlier run has completed with the same model, settings and scans.

    Only a manifest whose files all verify counts. Does nothing without ``resume``.

    Args:
        dataset: a :class:`~monai_zsad.data.ScreeningDataset`; its ``data`` change.
        output_dir: folder of both runs.
        resume: the words "true" and "false" are understood, as of ``overwrite``.
        overwrite: replace what was completed otherwise.
        describe: gives the model's description for a scan of a modality, DICOM's code; its weights are loaded.
        settings: what else decides the results.

    Returns:
        Cases that were left out.

    Raises:
        OutputError: if a case was completed with another model, other settings or another scan, and ``overwrite`` is
            false.
    """
    if not parse_flag("resume", resume):
        return []
    for path in clean_temporaries(output_dir):
        _logger.info("removed %s, left by an interrupted run", path)
    modalities = {str(record.get("modality") or "") for record in dataset.data}
    models = {modality: describe(modality) for modality in modalities}
    done = {
        str(record["case"])
        for record in dataset.data
        if is_complete(
            output_dir,
            record["case"],
            fingerprint(models[str(record.get("modality") or "")], settings, record["image"]),
        )
    }
    remaining = [record for record in dataset.data if str(record["case"]) not in done]
    other = [str(record["case"]) for record in remaining if not verify_manifest(output_dir, record["case"])]
    if other and not parse_flag("overwrite", overwrite):
        raise OutputError(
            f"{output_dir} holds results of {other[0]} that were made with another model, other settings or of another "
            "scan: add --overwrite true to replace them, or give another --output_dir"
        )
    dataset.data = remaining
    _logger.info("%d cases are complete already, %d remain", len(done), len(remaining))
    return sorted(done)


def evaluate(evaluator: Any) -> None:
    """Run a bundle's evaluator, if there is a case left to run."""
    if evaluator.state.epoch_length:
        evaluator.run()
    else:
        _logger.info("nothing to do: all cases are complete")
