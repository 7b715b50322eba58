"""The file that MONAI Label needs in the folder of an app. ``label-server`` copies it there."""

from monai_zsad.integrations.monailabel.compatibility import alias_pydicom

alias_pydicom()

from monai_zsad.integrations.monailabel.adapter.app import ScreeningApp  # noqa: E402, F401 - after the compatibility patch
