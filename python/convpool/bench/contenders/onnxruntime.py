"""ONNX Runtime."""

from __future__ import annotations

from typing import Any

from convpool.bench.cases import Case, Conv, Pool
from convpool.bench.contenders.base import Array, Contender, Run


class OnnxRuntime(Contender):
    """A session for a model of one node; ``run`` takes and gives NumPy arrays."""

    name = "onnxruntime"
    modules = ("onnxruntime", "onnx")
    distributions = ("onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu")
    how = "CPU provider, a model of one node"

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """The weights are the model's constants, packed when the session is made."""
        return self._session(case, input, weight, bias)

    def pool2d(self, case: Pool, input: Array) -> Run:
        """MaxPool or AveragePool."""
        return self._session(case, input)

    def _session(self, case: Case, input: Array, *constants: Array | None) -> Run:
        import onnxruntime

        from convpool.bench.onnx_models import single_node

        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = single_node(case, *constants).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        outputs, inputs = ["y"], {"x": input}
        return lambda: session.run(outputs, inputs)[0]
