"""OpenCV's DNN module."""

from __future__ import annotations

from typing import Any

import numpy as np

from convpool.bench.cases import Case, Conv, Pool
from convpool.bench.contenders.base import Array, Contender, Run


class OpenCv(Contender):
    """``cv2.dnn`` on an ONNX model of one node; the input is set and the result taken in each call."""

    name = "opencv"
    modules = ("cv2", "onnx")
    distributions = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless")
    how = "cv2.dnn, a model of one node"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import cv2

        cv2.setNumThreads(threads)

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """Conv."""
        return self._net(case, input, weight, bias)

    def pool2d(self, case: Pool, input: Array) -> Run:
        """MaxPool or AveragePool."""
        return self._net(case, input)

    def _net(self, case: Case, input: Array, *constants: Array | None) -> Run:
        import cv2

        from convpool.bench.onnx_models import single_node

        model = np.frombuffer(single_node(case, *constants).SerializeToString(), np.uint8)
        net: Any = cv2.dnn.readNetFromONNX(model)
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)

        def run() -> Any:
            net.setInput(input)
            return net.forward()

        return run
