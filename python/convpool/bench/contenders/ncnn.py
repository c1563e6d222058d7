"""ncnn."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from convpool.bench.cases import Case, Conv, Pool
from convpool.bench.contenders.base import Array, Contender, Run, UnsupportedError


class Ncnn(Contender):
    """A network of one layer with its weights transformed when it is loaded. One image at a time."""

    name = "ncnn"
    modules = ("ncnn",)
    distributions = ("ncnn",)
    how = "network of one layer, float32 forced, batch 1"

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """Convolution or ConvolutionDepthWise."""
        (top, bottom), (left, right) = case.padding
        parameters = {
            0: case.k, 1: case.kernel[1], 11: case.kernel[0], 2: case.dilation[1], 12: case.dilation[0],
            3: case.stride[1], 13: case.stride[0], 4: left, 15: right, 14: top, 16: bottom,
            5: int(bias is not None), 6: weight.size,
        }  # fmt: skip
        layer = "Convolution"
        if case.groups > 1:
            layer = "ConvolutionDepthWise"
            parameters[7] = case.groups
        content = struct.pack("<I", 0) + weight.tobytes() + (b"" if bias is None else bias.tobytes())
        return self._network(case, input, layer, parameters, content)

    def pool2d(self, case: Pool, input: Array) -> Run:
        """Pooling."""
        if case.dilation != (1, 1):
            raise UnsupportedError("no dilation in pooling")
        if case.ceil_mode:
            raise UnsupportedError("its ceil_mode follows other rules")
        (top, bottom), (left, right) = case.padding
        parameters = {
            0: int(case.mode == "avg"), 1: case.kernel[1], 11: case.kernel[0],
            2: case.stride[1], 12: case.stride[0], 3: left, 14: right, 13: top, 15: bottom,
            5: 1, 6: int(case.count_include_pad),
        }  # fmt: skip
        return self._network(case, input, "Pooling", parameters, b"")

    def _network(
        self, case: Case, input: Array, layer: str, parameters: dict[int, int], content: bytes
    ) -> Run:
        import ncnn

        if case.n != 1:
            raise UnsupportedError("batch 1 only")
        net: Any = ncnn.Net()
        net.opt.num_threads = self.threads
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        values = " ".join(f"{key}={value}" for key, value in parameters.items())
        text = f"7767517\n2 2\nInput x 0 1 x\n{layer} layer 1 1 x y {values}\n"
        with tempfile.TemporaryDirectory() as folder:
            param, model = Path(folder, "layer.param"), Path(folder, "layer.bin")
            param.write_text(text)
            model.write_bytes(content)
            if net.load_param(str(param)) != 0 or net.load_model(str(model)) != 0:
                raise RuntimeError("ncnn refused the layer")
        # Rows of channels start at multiples of 16 bytes in a Mat, so the input is copied into one, once.
        image = ncnn.Mat(input[0]).clone()

        def run() -> Any:
            extractor = net.create_extractor()
            extractor.input("x", image)
            status, result = extractor.extract("y")
            if status != 0:
                raise RuntimeError(f"ncnn's extract() returned {status}")
            return result

        return run

    def to_numpy(self, result: Any) -> Array:
        """The result is a new ``Mat``; a Mat of (K, OH, OW) has no batch axis."""
        array = np.array(result)
        return array.reshape(-1, *array.shape[-2:])[np.newaxis] if array.ndim == 3 else array
