"""AnoCLIP's test-time adaptation of patch tokens."""

from monai_zsad.networks.adaptation.settings import Adaptation, TestTimeAdaptation
from monai_zsad.networks.adaptation.tokens import TokenAdapter, adapt_tokens

__all__ = ["Adaptation", "TestTimeAdaptation", "TokenAdapter", "adapt_tokens"]
