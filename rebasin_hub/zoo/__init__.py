"""Reference networks: small, runnable and with the parameter names that checkpoints carry.

Proofs run a spec against them, and the demo trains them. Their names, shapes and functions are
those of the implementations that published checkpoints come from; only the widths are free.
Importing this package imports torch.
"""

from rebasin_hub.zoo.build import build
from rebasin_hub.zoo.mlp import MLP
from rebasin_hub.zoo.randomize import randomize
from rebasin_hub.zoo.resnet import BasicBlock, Bottleneck, ResNet
from rebasin_hub.zoo.resnet_cifar import CifarResNet
from rebasin_hub.zoo.vgg import VGG, VGG11, VGG16

__all__ = [
    "MLP",
    "VGG",
    "VGG11",
    "VGG16",
    "BasicBlock",
    "Bottleneck",
    "CifarResNet",
    "ResNet",
    "build",
    "randomize",
]
