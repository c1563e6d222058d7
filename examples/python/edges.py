"""Find the edges of a picture with a Sobel filter pair, then keep the strongest of each 4 x 4 block.

Run it with a picture, ``python edges.py photo.jpg edges.png`` (needs Pillow), or without arguments on a
drawn disc.
"""

import sys

import numpy as np

import convpool

SOBEL_X = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 8


def edge_strength(grey: np.ndarray) -> np.ndarray:
    """Steepness of a picture (H, W) at each pixel; the border repeats its last pixel."""
    sobel = np.stack([SOBEL_X, SOBEL_X.T])[:, None]
    gradient = convpool.conv2d(grey[None], sobel, padding="same", padding_mode="replicate")
    return np.hypot(gradient[0], gradient[1])


def disc(size: int) -> np.ndarray:
    """A bright disc on a dark ground."""
    offsets = np.arange(size) - (size - 1) / 2
    return (np.hypot(offsets[:, None], offsets) < 0.35 * size).astype(np.float32)


def main() -> None:
    if len(sys.argv) == 3:
        from PIL import Image

        grey = np.asarray(Image.open(sys.argv[1]).convert("L"), np.float32) / 255
        strength = edge_strength(grey)
        Image.fromarray(np.uint8(255 * strength / max(strength.max(), 1e-6))).save(sys.argv[2])
        return
    blocks = convpool.max_pool2d(edge_strength(disc(128))[None], 4)[0]
    for row in blocks[::2]:
        print("".join("#" if value > 0.2 else "." for value in row))


if __name__ == "__main__":
    main()
