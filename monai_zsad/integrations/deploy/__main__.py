"""``python -m monai_zsad.integrations.deploy -i DICOM -o RESULTS``. The packaged application runs this file too."""

from monai_zsad.workflow import friendly_errors

friendly_errors()

from monai_zsad.integrations.deploy.app import main  # noqa: E402 - an SDK that is not installed is one sentence, too

main()
