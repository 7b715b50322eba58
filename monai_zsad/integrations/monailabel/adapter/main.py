"""The file that MONAI Label looks for in an app's folder; ``label-server`` puts a copy of it there."""

from monai_zsad.integrations.monailabel.compatibility import alias_pydicom

alias_pydicom()

from monai_zsad.integrations.monailabel.adapter.app import ScreeningApp  # noqa: E402, F401 - after the cure
