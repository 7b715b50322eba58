"""The application: one operator that screens the DICOM series of a folder."""

# MONAI Deploy's SDK has its own environment; mypy runs in one without it.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.workflow import screen

try:
    from monai.deploy.conditions import CountCondition
    from monai.deploy.core import Application, Operator, OperatorSpec
except ImportError as error:
    raise ConfigurationError(
        f"monai_zsad.integrations.deploy: MONAI Deploy's SDK cannot be imported ({error}). It needs its own "
        "environment on Linux, with CUDA's runtime library: `python -m venv deploy-env` and "
        "`deploy-env/bin/pip install 'monai-zsad[deploy]'`"
    ) from error

__all__ = ["ScreeningApp", "ScreeningOperator", "main"]


class ScreeningOperator(Operator):
    """Screen all series of a folder, and write the results of ``monai_zsad screen`` to another folder.

    The SDK's ``DICOMDataLoaderOperator`` and ``DICOMSeriesToVolumeOperator`` were not sufficient. They keep all files
    of the folder in memory, and divide the distance of the first and the last slice by the number of slices, so a
    missing slice changes the geometry without a message. The reader of this package refuses such a series. Its writers
    make the SEG, the parametric map and the SR from what the reader knows of the series.

    Args:
        fragment: the application.
        *args: conditions, such as ``CountCondition``.
        scans: folder with DICOM files, in any subfolders.
        output_dir: folder for the results.
        options: arguments of :func:`monai_zsad.screen` by name.
        **kwargs: of the SDK's ``Operator``, such as ``name``.
    """

    def __init__(
        self, fragment: Any, *args: Any, scans: Path, output_dir: Path, options: dict[str, Any], **kwargs: Any
    ) -> None:
        self.scans, self.output_dir, self.options = scans, output_dir, options
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare no ports: input and output are folders."""

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:  # noqa: ARG002 - the SDK passes them
        """Screen the series.

        Args:
            op_input: not used.
            op_output: not used.
            context: not used.

        Raises:
            InputError: if there is no scan, or after the run, if scans were refused or failed. The others have results.
        """
        result = screen(str(self.scans), self.output_dir, **self.options)
        if not result.complete:
            raise InputError("; ".join(f"{case.case}: {case.reason}" for case in result.failed))


class ScreeningApp(Application):
    """DICOM series in, SEG, parametric map and SR out. ``app.yaml`` has the bundle and the options."""

    def compose(self) -> None:
        """Build the graph: one operator, which runs once."""
        folders = Application.init_app_context(self.argv)
        options = self.kwargs("screen")
        self.add_operator(
            ScreeningOperator(
                self,
                CountCondition(self, 1),
                scans=Path(folders.input_path),
                output_dir=Path(folders.output_path),
                options=options,
                name="screening",
            )
        )


def main() -> None:
    """Run the application. The packager sets ``HOLOSCAN_CONFIG_PATH`` to its copy of ``app.yaml``."""
    app = ScreeningApp()
    app.config(os.environ.get("HOLOSCAN_CONFIG_PATH") or str(Path(__file__).with_name("app.yaml")))
    app.run()
