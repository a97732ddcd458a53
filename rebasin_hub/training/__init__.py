"""Train the image classifiers that experiments, benchmarks and the demo compare.

Apart from the core, which never imports it. A `Classifier` says everything that decides the
weights; training it leaves an ordinary checkpoint under the names of the shipped specs, with a log
beside it, in a store where the same settings are never trained twice. Importing this package does
not import torch.
"""

from rebasin_hub.training.classifier import Classifier
from rebasin_hub.training.recipe import Recipe
from rebasin_hub.training.store import Stored, Trained, stored
from rebasin_hub.training.subset import Half, Subset

__all__ = ["Classifier", "Half", "Recipe", "Stored", "Subset", "Trained", "stored"]
