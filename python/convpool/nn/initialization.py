"""The default values of parameters, by PyTorch's rule, from a generator that can be seeded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convpool._arguments import Array

__all__ = ["fan_in_uniform", "manual_seed"]

_generator: np.random.Generator | None = None


def manual_seed(seed: int) -> np.random.Generator:
    """Starts the generator that new layers draw their parameters from afresh, and returns it.

    >>> from convpool import nn
    >>> _ = nn.manual_seed(0)
    >>> a = nn.Conv2d(1, 1, 3)
    >>> _ = nn.manual_seed(0)
    >>> b = nn.Conv2d(1, 1, 3)
    >>> bool((a.weight == b.weight).all())
    True
    """
    global _generator
    _generator = np.random.default_rng(seed)
    return _generator


def fan_in_uniform(
    shape: tuple[int, ...], fan_in: int, dtype: np.dtype[Any], generator: np.random.Generator | None
) -> Array:
    """Uniform on +-1/sqrt(fan_in).

    That is what ``torch.nn.Conv2d`` and ``torch.nn.Linear`` start from, weight and bias alike:
    kaiming_uniform with a = sqrt(5), where the gain's square is 2 / (1 + 5) and the bound sqrt(3 * gain**2 /
    fan_in).
    """
    global _generator
    if generator is None:
        generator = _generator = _generator or np.random.default_rng()
    bound = 1 / math.sqrt(fan_in)
    return generator.uniform(-bound, bound, shape).astype(dtype)
