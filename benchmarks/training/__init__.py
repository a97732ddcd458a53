"""Train the networks that benchmarks and experiments measure, apart from the product.

Checkpoints are ordinary ones, which the product's commands read like anybody's: safetensors under
the names that the shipped specs know, or Hugging Face directories. Beside each lies a log. What is
finished is not trained again: a checkpoint's name carries the digest of its settings.
"""

from training.classifier import Classifier
from training.fit import Recipe
from training.language import LanguageModel
from training.store import Trained

__all__ = ["Classifier", "LanguageModel", "Recipe", "Trained"]
