"""What a convolution layer does, as text and as values."""

from __future__ import annotations

from typing import Any

__all__ = ["Explanation"]


class Explanation(str):
    """What :meth:`convpool.nn.Conv2d.explain` tells: a text in lines of "name: value", and its values.

    Attributes
    ----------
    algorithm, why
        The one that runs, and the reason.
    isa, lanes, in_vectors
        The instruction set, the items of its vectors, and what they hold: ``"channels"`` (of the output),
        ``"input channels"``, ``"pixels"`` or ``"nothing"``.
    num_threads
        The threads that share the work: fewer than allowed where it is small.
    output_shape
        The result's shape.
    tile
        (rows, vectors) of a register tile; None where the kernel itself decides.
    winograd_tile
        Results (height, width) of a tile of Winograd's algorithm, else None.
    block
        What a task takes at a time: (result pixels, output channels, terms of their sums); None for
        ``naive``.
    flops, bytes, intensity
        2 for each product of the definition, whatever the algorithm saves; the bytes of input, weights, bias
        and result, each touched once; and the first divided by the second.
    balance, bound
        The FLOPs for each byte at which arithmetic takes as long as memory, and which of the two is expected
        to take longer: ``"memory"`` where the intensity is lower, else ``"compute"``.
    workspace_bytes, packed_weight_bytes
        Scratch of a call, and what the layer keeps besides its weights.
    timings
        With ``algorithm="benchmark"``, once a call has measured: (algorithm, in_vectors, seconds) of each.
    """

    algorithm: str
    why: str
    isa: str
    lanes: int
    in_vectors: str
    num_threads: int
    output_shape: tuple[int, ...]
    tile: tuple[int, int] | None
    winograd_tile: tuple[int, int] | None
    block: tuple[int, int, int] | None
    flops: int
    bytes: int
    intensity: float
    balance: float
    bound: str
    workspace_bytes: int
    packed_weight_bytes: int
    timings: tuple[tuple[str, str, float], ...]

    @classmethod
    def _of(cls, text: str, values: dict[str, Any]) -> Explanation:
        self = cls(text)
        self.__dict__.update(values)
        return self
