"""OpenVINO."""

from __future__ import annotations

from typing import Any

import numpy as np

from convpool.bench.cases import Conv, Pool
from convpool.bench.contenders.base import Array, Contender, Run


class OpenVino(Contender):
    """A compiled model of one operation, which writes into a new NumPy array in each call."""

    name = "openvino"
    modules = ("openvino",)
    distributions = ("openvino",)
    how = "compiled model of one operation, float32 forced"

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """Convolution or GroupConvolution with constant weights, and Add."""
        from openvino import opset13 as ops

        x = ops.parameter(input.shape, np.float32)
        begin, end = _padding(case)
        if case.groups == 1:
            y = ops.convolution(x, ops.constant(weight), case.stride, begin, end, case.dilation)
        else:
            groups = (case.groups, case.k // case.groups, *weight.shape[1:])
            filters = ops.constant(weight.reshape(groups))
            y = ops.group_convolution(x, filters, case.stride, begin, end, case.dilation)
        if bias is not None:
            y = ops.add(y, ops.constant(bias.reshape(1, -1, 1, 1)))
        return self._compiled(x, y, case.output_shape, input)

    def pool2d(self, case: Pool, input: Array) -> Run:
        """MaxPool or AvgPool with PyTorch's rounding."""
        from openvino import opset14 as ops

        x = ops.parameter(input.shape, np.float32)
        begin, end = _padding(case)
        rounding = "ceil_torch" if case.ceil_mode else "floor"
        if case.mode == "max":
            y = ops.max_pool(x, case.stride, case.dilation, begin, end, case.kernel, rounding).output(0)
        elif case.dilation == (1, 1):
            y = ops.avg_pool(x, case.stride, begin, end, case.kernel, not case.count_include_pad, rounding)
        else:
            from openvino import opset16

            y = opset16.avg_pool(
                x, case.stride, case.dilation, begin, end, case.kernel, not case.count_include_pad, rounding
            )
        return self._compiled(x, y, case.output_shape, input)

    def _compiled(self, x: Any, y: Any, shape: tuple[int, ...], input: Array) -> Run:
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # the process is pinned already
        }
        model = openvino.Core().compile_model(openvino.Model([y], [x]), "CPU", options)
        request = model.create_infer_request()
        self._alive = model, input  # the request has pointers to both, and doesn't own them
        request.set_input_tensor(openvino.Tensor(input, shared_memory=True))
        # Its own result would have to be copied out of the request before the next call.
        tensor = openvino.Tensor

        def run() -> Array:
            result = np.empty(shape, np.float32)
            request.set_output_tensor(tensor(result, shared_memory=True))
            request.infer()
            return result

        return run


def _padding(case: Conv | Pool) -> tuple[tuple[int, int], tuple[int, int]]:
    (top, bottom), (left, right) = case.padding
    return (top, left), (bottom, right)
