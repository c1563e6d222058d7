"""A network as a class of its own, after LeNet-5, with weights saved to a file and loaded again."""

import tempfile
from pathlib import Path

import numpy as np

from convpool import nn


class LeNet(nn.Module):
    """Scores (N, 10) of pictures (N, 1, 28, 28)."""

    def __init__(self) -> None:
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2, activation="relu"),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, activation="relu"),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.readout = nn.Sequential(
            nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)
        )

    def forward(self, images: np.ndarray) -> np.ndarray:
        """The ten scores of each picture."""
        return self.readout(self.features(images))


def main() -> None:
    nn.manual_seed(0)
    net = LeNet()
    print(net)
    for name, parameter in net.named_parameters():
        print(f"{name:20} {parameter.shape}")

    images = np.random.default_rng(0).random((32, 1, 28, 28), dtype=np.float32)
    scores = net(images)

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "lenet.npz"
        np.savez(path, **net.state_dict())
        other = LeNet()
        with np.load(path) as saved:
            other.load_state_dict(dict(saved))
    print(f"scores {scores.shape}, the same after loading: {np.array_equal(scores, other(images))}")


if __name__ == "__main__":
    main()
