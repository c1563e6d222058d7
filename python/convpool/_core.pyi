"""The C++ module. Private: the functions of the package take more forms of arguments and check them."""

from typing import Any, Literal, TypeAlias, TypedDict, overload

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Int64Array: TypeAlias = npt.NDArray[np.int64]
Pair: TypeAlias = tuple[int, int]
Sides: TypeAlias = str | tuple[Pair, Pair]

class Config(TypedDict):
    version: str
    compiler: str
    flags: str
    build_type: str
    isas_built: tuple[str, ...]
    isas_available: tuple[str, ...]
    isa: str
    threads: bool
    num_threads: int

class Conv2dPlan:
    def __init__(
        self,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Sides,
        dilation: Pair,
        groups: int,
        padding_mode: str,
        layout: str,
        activation: str,
        algorithm: str,
        /,
    ) -> None: ...
    def __call__(self, input: Array, add: Array | None, out: Array | None, num_threads: int, /) -> Array: ...
    def plain(self, input: object, num_threads: object, /) -> Array | None: ...
    def explain(
        self, input_shape: tuple[int, ...], num_threads: int, flops_per_byte: float, /
    ) -> tuple[str, dict[str, Any]]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def weight_shape(self) -> tuple[int, ...]: ...

def conv2d(
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    padding_mode: str,
    layout: str,
    activation: str,
    algorithm: str,
    add: Array | None,
    out: Array | None,
    num_threads: int,
    /,
) -> Array: ...
@overload
def max_pool2d(
    input: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    ceil_mode: bool,
    return_indices: Literal[False],
    layout: str,
    out: Array | None,
    num_threads: int,
    padding_nested: bool,
    /,
) -> Array: ...
@overload
def max_pool2d(
    input: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    ceil_mode: bool,
    return_indices: bool,
    layout: str,
    out: Array | None,
    num_threads: int,
    padding_nested: bool,
    /,
) -> Array | tuple[Array, Int64Array]: ...
def avg_pool2d(
    input: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    layout: str,
    out: Array | None,
    num_threads: int,
    padding_nested: bool,
    /,
) -> Array: ...
def plain_conv2d(
    input: object,
    weight: object,
    bias: object,
    stride: object,
    padding: object,
    dilation: object,
    groups: object,
    padding_mode: object,
    layout: object,
    activation: object,
    algorithm: object,
    add: object,
    out: object,
    num_threads: object,
    /,
) -> Array | None: ...
def plain_max_pool2d(
    input: object,
    kernel_size: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: object,
    return_indices: object,
    layout: object,
    out: object,
    num_threads: object,
    /,
) -> Array | tuple[Array, Int64Array] | None: ...
def plain_avg_pool2d(
    input: object,
    kernel_size: object,
    stride: object,
    padding: object,
    ceil_mode: object,
    count_include_pad: object,
    divisor_override: object,
    dilation: object,
    layout: object,
    out: object,
    num_threads: object,
    /,
) -> Array | None: ...
def conv2d_output_shape(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    padding_mode: str,
    layout: str,
    /,
) -> tuple[int, ...]: ...
def pool2d_output_shape(
    input_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    ceil_mode: bool,
    layout: str,
    padding_nested: bool,
    /,
) -> tuple[int, ...]: ...
def set_num_threads(n: int, /) -> None: ...
def get_num_threads() -> int: ...
def isa() -> str: ...
def available_isas() -> tuple[str, ...]: ...
def config() -> Config: ...
def force_isa(name: str, /) -> None: ...
def is_plain_output(
    out: object, dtype: np.dtype[Any], inputs: tuple[npt.NDArray[Any] | None, ...], /
) -> bool: ...
def measure_fma_peak(isa: str, seconds: float, /) -> float: ...
def measure_memory_bandwidth(seconds: float, /) -> float: ...
