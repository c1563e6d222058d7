"""Layers with the names, arguments, defaults and reprs of ``torch.nn``, on NumPy arrays.

>>> import numpy as np
>>> from convpool import nn
>>> net = nn.Sequential(nn.Conv2d(1, 5, 5), nn.ReLU(), nn.MaxPool2d(2))
>>> net
Sequential(
  (0): Conv2d(1, 5, kernel_size=(5, 5), stride=(1, 1))
  (1): ReLU()
  (2): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
)
>>> net(np.zeros((1, 28, 28), dtype=np.float32)).shape
(5, 12, 12)

Parameters are plain NumPy arrays. Changing one in place and assigning another both take effect with the next
call.
"""

from convpool.nn.activation import ReLU, Sigmoid
from convpool.nn.container import Sequential
from convpool.nn.conv import Conv2d
from convpool.nn.explanation import Explanation
from convpool.nn.initialization import manual_seed
from convpool.nn.linear import Flatten, Linear
from convpool.nn.module import IncompatibleKeys, Module
from convpool.nn.pooling import AvgPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "Explanation",
    "Flatten",
    "IncompatibleKeys",
    "Linear",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "manual_seed",
]
