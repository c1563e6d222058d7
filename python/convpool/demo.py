"""The demonstration behind ``python -m convpool demo``.

Photographs go through filters and poolings onto a contact sheet, handwritten digits through a small CNN, all
by the public API. Photographs and digits are scikit-learn's, Pillow writes the picture: both come with
``pip install convpool[demo]``.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import convpool
from convpool import nn

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

__all__ = ["main"]

Array = NDArray[Any]
Colour = tuple[int, int, int]

SHEET_NAME = "convpool-demo.png"
TIMED_CALLS = 5

# ---- filters


def gaussian(size: int, sigma: float) -> Array:
    """Bell-shaped weights (size, size) that sum to 1."""
    along = np.exp(-0.5 * (_offsets(size) / sigma) ** 2)
    return _normalised(np.outer(along, along))


def disc(size: int) -> Array:
    """Equal weights on a disc (size, size): what a wide-open lens makes of a point of light."""
    offsets = _offsets(size)
    distance = np.hypot(offsets[:, None], offsets)
    return _normalised(np.clip(size / 2 - distance, 0, 1))


def difference_of_gaussians(size: int, sigma: float) -> Array:
    """A narrow bell minus a wider one (size, size): what the retina is said to do with light."""
    return gaussian(size, sigma) - gaussian(size, 1.6 * sigma)


def gabor_bank(orientations: int, size: int, wavelength: float) -> Array:
    """Wave packets at evenly spread angles, cosines before sines: (2 * orientations, 1, size, size)."""
    y, x = np.meshgrid(_offsets(size), _offsets(size), indexing="ij")
    envelope = np.exp(-(x**2 + y**2) / (2 * (0.45 * wavelength) ** 2))
    across = [x * np.cos(angle) + y * np.sin(angle) for angle in _angles(orientations)]
    even = [envelope * np.cos(2 * np.pi * distance / wavelength) for distance in across]
    even = [wave - envelope * wave.sum() / envelope.sum() for wave in even]  # blind to plain brightness
    odd = [envelope * np.sin(2 * np.pi * distance / wavelength) for distance in across]
    return np.stack(even + odd).astype(np.float32)[:, None]


SOBEL_X = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 8
SOBEL = np.stack([SOBEL_X, SOBEL_X.T])[:, None]
LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)
EMBOSS = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], np.float32)
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
LUMINANCE = np.array([[0.2126, 0.7152, 0.0722]], np.float32)
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], np.float32) / 1.2
ORIENTATIONS = 12


def _offsets(size: int) -> Array:
    return np.arange(size) - (size - 1) / 2


def _angles(orientations: int) -> Array:
    return np.arange(orientations) * np.pi / orientations


def _normalised(weights: Array) -> Array:
    return np.asarray(weights / weights.sum(), np.float32)


# ---- from result to colours


def _stretched(values: Array, percentile: float = 99.5) -> Array:
    """Magnitudes scaled so that all but the largest few lie in 0 to 1."""
    scale = max(float(np.percentile(np.abs(values), percentile)), 1e-6)
    return np.asarray(np.clip(values / scale, -1, 1), np.float32)


def _coloured(values: Array, stops: Sequence[Colour]) -> Array:
    """Values from 0 to 1 as colours (..., 3) on a line through ``stops``."""
    table = np.array(stops, np.float32) / 255
    positions = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(values, positions, table[:, c]) for c in range(3)], axis=-1).astype(np.float32)


NIGHT: Sequence[Colour] = (
    (13, 16, 33),
    (58, 31, 92),
    (160, 48, 103),
    (238, 104, 78),
    (253, 186, 106),
    (252, 246, 214),
)
INK: Sequence[Colour] = ((250, 246, 237), (186, 179, 170), (92, 92, 104), (30, 34, 50))
COLD_WARM: Sequence[Colour] = ((20, 66, 122), (92, 156, 206), (247, 244, 238), (233, 147, 87), (158, 50, 28))


def _photograph(result: Array) -> Array:
    return np.clip(result, 0, 1)


def _grey(result: Array) -> Array:
    return np.repeat(np.clip(result[..., :1], 0, 1), 3, axis=-1)


def _signed(result: Array) -> Array:
    return _coloured(0.5 + 0.5 * _stretched(result[0], 98.5), COLD_WARM)


def _strength(gradient: Array) -> Array:
    return np.asarray(np.hypot(gradient[0], gradient[1]))


def _glowing(gradient: Array) -> Array:
    return _lit(_strength(gradient)[None])


def _lit(strength: Array) -> Array:
    return _coloured(_stretched(strength[0]) ** 0.7, NIGHT)


def _inked(values: Array) -> Array:
    return _coloured(_stretched(np.abs(values), 99) ** 0.8, INK)


def _energy(responses: Array) -> Array:
    """How strongly each orientation is present (orientations, H, W), whatever the phase of its wave."""
    half = responses.shape[0] // 2
    return np.hypot(responses[:half], responses[half:])


def _orientation_colours(energy: Array) -> Array:
    """Hue tells the main orientation, brightness its strength."""
    turns = np.exp(2j * _angles(energy.shape[0]))
    mean = np.tensordot(turns, energy, axes=1)
    total = energy.sum(axis=0) + 1e-6
    hue = np.angle(mean)[..., None] + 2 * np.pi * np.array([0, 1 / 3, 2 / 3])
    saturation = np.clip(1.6 * np.abs(mean) / total, 0, 1)[..., None]
    brightness = (_stretched(energy.max(axis=0), 98) ** 0.6)[..., None]
    colours = brightness * (1 - saturation * (0.5 - 0.5 * np.cos(hue)))
    return np.asarray(colours, np.float32)


def _side_by_side(energy: Array, columns: int = 4) -> Array:
    """All channels of (C, H, W) in one picture, every ``columns``-th pixel of each."""
    pieces = _coloured(_stretched(energy[:, ::columns, ::columns]) ** 0.7, NIGHT)
    rows = [np.concatenate(list(pieces[i : i + columns]), axis=1) for i in range(0, len(pieces), columns)]
    return np.concatenate(rows, axis=0)


# ---- the steps


@dataclass(frozen=True)
class Step:
    """One call on one array, and how to look at what it gives."""

    title: str
    call: str
    source: Array
    run: Callable[[Array], Array]
    show: Callable[[Array], Array]


@dataclass(frozen=True)
class Section:
    """Steps that share a row of the contact sheet."""

    title: str
    remark: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Outcome:
    """A step that has run: its result, its picture (H, W, 3) from 0 to 1, and the median time of a call."""

    step: Step
    result: Array
    picture: Array
    milliseconds: float


def _filtered(image: Array, weight: Array, dilation: int = 1) -> Array:
    """Filter planes (C, H, W); the border repeats its last pixel, so that no frame appears."""
    return convpool.conv2d(image, weight, dilation=dilation, padding="same", padding_mode="replicate")


def _filtered_photograph(image: Array, kernel: Array) -> Array:
    """Filter each colour of a photograph (H, W, 3) by itself: a depthwise convolution."""
    weight = np.repeat(kernel[None, None], 3, axis=0)
    return convpool.conv2d(image, weight, groups=3, padding="same", padding_mode="replicate", layout="NHWC")


def _mixed_colours(image: Array, matrix: Array) -> Array:
    """Give each pixel of (H, W, 3) new channels, ``matrix`` (K, 3) times the old: a 1x1 convolution."""
    return convpool.conv2d(image, matrix[:, :, None, None], layout="NHWC")


def _plane(photograph: Array) -> Array:
    """The brightness of a photograph (H, W, 3), as one plane (1, H, W)."""
    return np.moveaxis(_mixed_colours(photograph, LUMINANCE), 2, 0)


def photograph_sections(temple: Array, flower: Array) -> list[Section]:
    """Build the rows of the contact sheet from two photographs (H, W, 3) with values from 0 to 1."""
    return [
        Section("Colour", "a 1x1 convolution mixes channels, pixel by pixel", _colour_steps(temple, flower)),
        Section("Blur", "one filter for each colour: depthwise, channels last", _blur_steps(temple, flower)),
        Section("Edges", "differences between neighbours", _edge_steps(_plane(temple))),
        Section("Detail", "from crisp to drawn", _detail_steps(flower)),
        Section(
            "Orientation", "24 wave packets in one call, energy by angle", _orientation_steps(temple, flower)
        ),
        Section("Pooling", "the largest or the mean of each window", _pooling_steps(temple, flower)),
    ]


def _colour_steps(temple: Array, flower: Array) -> list[Step]:
    def step(title: str, photograph: Array, matrix: Array, show: Callable[[Array], Array]) -> Step:
        call = f"conv2d 1x1, 3 -> {len(matrix)} channel{'s' if len(matrix) > 1 else ''}"
        return Step(title, call, photograph, lambda x: _mixed_colours(x, matrix), show)

    identity = np.eye(3, dtype=np.float32)
    return [
        step("Temple", temple, identity, _photograph),
        step("Flower", flower, identity, _photograph),
        step("Luminance", temple, LUMINANCE, _grey),
        step("Sepia", temple, SEPIA, _photograph),
    ]


def _depthwise_step(
    title: str, photograph: Array, kernel: Array, show: Callable[[Array], Array] = _photograph
) -> Step:
    call = f"conv2d {_shape(kernel)}, depthwise"
    return Step(title, call, photograph, lambda x: _filtered_photograph(x, kernel), show)


def _blur_steps(temple: Array, flower: Array) -> list[Step]:
    # A lens adds up light, and a photograph's values aren't proportional to it: hence the powers.
    gamma = 2.2
    light = np.asarray(temple**gamma, np.float32)
    return [
        _depthwise_step("Gaussian blur", flower, gaussian(21, 3.5)),
        _depthwise_step("Box blur", temple, np.full((15, 15), 1 / 15**2, np.float32)),
        _depthwise_step("Motion blur", flower, np.full((1, 61), 1 / 61, np.float32)),
        _depthwise_step("Out of focus", light, disc(31), lambda y: _photograph(y) ** (1 / gamma)),
    ]


def _plane_step(
    title: str, plane: Array, weight: Array, show: Callable[[Array], Array], dilation: int = 1
) -> Step:
    filters = len(weight)
    special = f", dilation {dilation}" if dilation > 1 else f", {filters} filters" if filters > 1 else ""
    call = f"conv2d {_shape(weight[0, 0])}{special}"
    return Step(title, call, plane, lambda x: _filtered(x, weight, dilation), show)


def _edge_steps(plane: Array) -> list[Step]:
    return [
        _plane_step("Sobel, left to right", plane, SOBEL[:1], _signed),
        _plane_step("Sobel, top to bottom", plane, SOBEL[1:], _signed),
        _plane_step("Sobel, magnitude", plane, SOBEL, _glowing),
        _plane_step("Laplacian", plane, LAPLACIAN[None, None], lambda y: _inked(y[0])),
    ]


def _detail_steps(flower: Array) -> list[Step]:
    plane = _plane(flower)
    contrast = difference_of_gaussians(31, 2.0)[None, None]
    return [
        _depthwise_step("Sharpen", flower, SHARPEN),
        _depthwise_step("Emboss", flower, EMBOSS, lambda y: _photograph(0.5 + y)),
        _plane_step("Dilated edges", plane, SOBEL, _glowing, dilation=6),
        _plane_step("Drawing", plane, contrast, lambda y: _inked(np.minimum(y[0], 0))),
    ]


def _orientation_steps(temple: Array, flower: Array) -> list[Step]:
    bank = gabor_bank(ORIENTATIONS, 21, 8.0)
    energy = _energy(_filtered(_plane(flower), bank))

    def main_orientation(responses: Array) -> Array:
        return _orientation_colours(_energy(responses))

    def pooled(energy: Array) -> Array:
        return convpool.max_pool2d(energy, 12, ceil_mode=True)

    return [
        _plane_step("Main orientation", _plane(temple), bank, main_orientation),
        _plane_step("Twelve angles", _plane(temple), bank, lambda y: _side_by_side(_energy(y))),
        _plane_step("Main orientation", _plane(flower), bank, main_orientation),
        Step("Stained glass", "max_pool2d 12x12", energy, pooled, _orientation_colours),
    ]


def _pooling_steps(temple: Array, flower: Array) -> list[Step]:
    edges = _strength(_filtered(_plane(temple), SOBEL))[None]

    def average(x: Array) -> Array:
        return convpool.avg_pool2d(x, 16, ceil_mode=True, layout="NHWC")

    def maximum(x: Array) -> Array:
        return convpool.max_pool2d(x, 8, ceil_mode=True, layout="NHWC")

    def brightest(x: Array) -> Array:
        return convpool.max_pool2d(x, 11, 1, 5, layout="NHWC")

    def strongest(x: Array) -> Array:
        return convpool.max_pool2d(x, 5, 1, 2)

    return [
        Step("Average mosaic", "avg_pool2d 16x16", flower, average, _photograph),
        Step("Maximum mosaic", "max_pool2d 8x8", temple, maximum, _photograph),
        Step("Brightest neighbour", "max_pool2d 11x11, stride 1", flower, brightest, _photograph),
        Step("Strongest edge", "max_pool2d 5x5, stride 1", edges, strongest, _lit),
    ]


def perform(step: Step) -> Outcome:
    """Run a step several times and keep its result, its picture and the median time."""
    times = []
    result = step.run(step.source)
    for _ in range(TIMED_CALLS):
        start = time.perf_counter()
        result = step.run(step.source)
        times.append(1e3 * (time.perf_counter() - start))
    return Outcome(step, result, step.show(result), statistics.median(times))


# ---- the table


def format_table(outcomes: Iterable[Outcome]) -> str:
    """One line for each step: what ran, shapes, milliseconds, size of the result."""
    rows = [("", "operation", "input", "", "output", "ms", "result")]
    for outcome in outcomes:
        step = outcome.step
        rows.append(
            (
                step.title,
                step.call,
                _shape(step.source),
                "->",
                _shape(outcome.result),
                f"{outcome.milliseconds:.2f}",
                _size(outcome.result.nbytes),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = {5, 6}
    lines = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def _shape(array: Array) -> str:
    return "x".join(str(n) for n in array.shape)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} KB"


# ---- the contact sheet


class ContactSheet:
    """Rows of captioned pictures on one page."""

    columns = 4
    tile = (480, 320)
    radius = 10
    margin = 72
    gap = 32
    heading = 62
    caption = 62
    row_gap = 26
    header = 176
    footer = 84
    paper: Colour = (250, 247, 241)
    ink: Colour = (33, 36, 48)
    soft: Colour = (121, 120, 124)
    hairline: Colour = (226, 220, 208)
    accent: Colour = (186, 72, 48)

    def __init__(self, rows: int) -> None:
        from PIL import Image, ImageDraw

        width = 2 * self.margin + self.columns * self.tile[0] + (self.columns - 1) * self.gap
        height = self.header + rows * self._row_height() - self.row_gap + self.footer
        self.page: Image.Image = Image.new("RGB", (width, height), self.paper)
        self._draw: ImageDraw.ImageDraw = ImageDraw.Draw(self.page)
        self._corners = self._rounded_corners()

    def title(self, title: str, subtitle: str) -> None:
        """Head the page."""
        self._draw.text((self.margin - 4, 44), title, self.ink, self._font(72), anchor="la")
        right = self.page.width - self.margin
        self._draw.text((right, 108), subtitle, self.soft, self._font(27), anchor="rs")
        self._draw.line((self.margin, 140, right, 140), self.ink, 3)

    def section(self, row: int, title: str, remark: str, outcomes: Sequence[Outcome]) -> None:
        """Add a row of pictures under a heading."""
        top = self.header + row * self._row_height()
        baseline = top + 30
        font = self._font(32)
        self._draw.text((self.margin, baseline), title, self.accent, font, anchor="ls")
        x = self.margin + font.getlength(title) + 18
        self._draw.text((x, baseline), remark, self.soft, self._font(23), anchor="ls")
        for column, outcome in enumerate(outcomes):
            self._place(self.margin + column * (self.tile[0] + self.gap), top + self.heading, outcome)

    def foot(self, text: str) -> None:
        """Close the page with a line in small type."""
        position = (self.margin, self.page.height - self.footer / 2 + 8)
        self._draw.text(position, text, self.soft, self._font(20), anchor="lm")

    def _row_height(self) -> int:
        return self.heading + self.tile[1] + self.caption + self.row_gap

    def _place(self, x: int, y: int, outcome: Outcome) -> None:
        self.page.paste(self._picture(outcome.picture), (x, y), self._corners)
        frame = (x, y, x + self.tile[0] - 1, y + self.tile[1] - 1)
        self._draw.rounded_rectangle(frame, self.radius, outline=self.hairline)
        right = x + self.tile[0]
        baseline = y + self.tile[1] + 28
        self._draw.text((x + 2, baseline), outcome.step.title, self.ink, self._font(23), anchor="ls")
        duration = (
            f"{outcome.milliseconds:.2g} ms"
            if outcome.milliseconds < 10
            else f"{outcome.milliseconds:.0f} ms"
        )
        self._draw.text((right - 2, baseline), duration, self.ink, self._font(20), anchor="rs")
        baseline += 26
        self._draw.text((x + 2, baseline), outcome.step.call, self.soft, self._font(18), anchor="ls")
        shapes = f"{_shape(outcome.step.source)} -> {_shape(outcome.result)}"
        self._draw.text((right - 2, baseline), shapes, self.soft, self._font(18), anchor="rs")

    def _picture(self, picture: Array) -> Image.Image:
        from PIL import Image

        image = Image.fromarray(np.rint(255 * picture).astype(np.uint8))
        enlarged = image.width < self.tile[0]
        return image.resize(self.tile, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)

    def _rounded_corners(self) -> Image.Image:
        from PIL import Image, ImageDraw

        scale = 4
        mask = Image.new("L", (scale * self.tile[0], scale * self.tile[1]), 0)
        box = (0, 0, mask.width - 1, mask.height - 1)
        ImageDraw.Draw(mask).rounded_rectangle(box, self.radius * scale, 255)
        return mask.resize(self.tile, Image.Resampling.LANCZOS)

    @staticmethod
    def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        from PIL import ImageFont

        return ImageFont.load_default(size)


def show_photographs(directory: Path) -> None:
    """Run all filters and poolings, print their table and write the contact sheet."""
    temple, flower = _load_photographs()
    sections = photograph_sections(temple, flower)
    rows = [(section, [perform(step) for step in section.steps]) for section in sections]
    print(format_table(outcome for _, outcomes in rows for outcome in outcomes))

    threads = convpool.get_num_threads()
    machine = f"{convpool.isa()}, {threads} thread{'s' if threads > 1 else ''}"
    sheet = ContactSheet(len(rows))
    sheet.title("convpool", "2-D convolution and pooling on NumPy arrays · each picture is one call")
    for row, (section, outcomes) in enumerate(rows):
        sheet.section(row, section.title, section.remark, outcomes)
    sheet.foot(
        f"Times: medians of {TIMED_CALLS} calls, float32, {machine}. Photographs: scikit-learn's samples."
    )

    directory.mkdir(parents=True, exist_ok=True)
    path = directory / SHEET_NAME
    sheet.page.save(path, optimize=True)
    print(f"\ncontact sheet: {path.resolve()} ({_size(path.stat().st_size)}), timed with {machine}")


def _load_photographs() -> tuple[Array, Array]:
    from sklearn.datasets import load_sample_image

    temple, flower = (
        load_sample_image(name).astype(np.float32) / 255 for name in ("china.jpg", "flower.jpg")
    )
    return temple, flower


# ---- the digits


def random_features(generator: np.random.Generator) -> list[nn.Module]:
    """Two convolutions with random weights that are never trained: 8x8 pixels become 512 features."""

    def convolution(inputs: int, outputs: int) -> nn.Module:
        weight = generator.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(9 * inputs)
        return nn.Conv2d.from_weights(weight.astype(np.float32), padding=1)

    return [
        convolution(1, 32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        convolution(32, 128),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    ]


def fit_readout(features: Array, labels: NDArray[np.intp], ridge: float = 1.0) -> nn.Linear:
    """Fit a linear layer to one-hot labels by least squares, with a penalty on large weights."""
    rows = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    targets = np.eye(int(labels.max()) + 1)[labels]
    solution = np.linalg.solve(rows.T @ rows + ridge * np.eye(rows.shape[1]), rows.T @ targets).astype(
        np.float32
    )
    readout = nn.Linear(features.shape[1], targets.shape[1])
    readout.load_state_dict({"weight": np.ascontiguousarray(solution[:-1].T), "bias": solution[-1]})
    return readout


def classify_digits(seed: int = 0) -> float:
    """Fit a small CNN to three quarters of scikit-learn's digits, and return its accuracy on the rest."""
    from sklearn.datasets import load_digits

    generator = np.random.default_rng(seed)
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = generator.permutation(len(images))
    train, test = np.split(order, [3 * len(images) // 4])

    layers = random_features(generator)
    readout = fit_readout(nn.Sequential(*layers)(images[train]), labels[train])
    model = nn.Sequential(*layers, readout)

    start = time.perf_counter()
    answers = model(images[test]).argmax(axis=1)
    elapsed = time.perf_counter() - start
    right = int(np.count_nonzero(answers == labels[test]))

    print(f"handwritten digits, 8x8 pixels: {len(train)} to fit, {len(test)} to test\n\n{model}\n")
    print(f"test accuracy: {right / len(test):.4f} ({len(test) - right} of {len(test)} wrong), ", end="")
    print(f"{1e6 * elapsed / len(test):.0f} microseconds an image")
    return right / len(test)


# ---- command line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration with command line arguments; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m convpool demo", description="Filters, poolings and a small CNN."
    )
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help=f"where {SHEET_NAME} goes")
    parser.add_argument("--no-digits", action="store_true", help="leave out the classification of digits")
    options = parser.parse_args(argv)

    missing = [name for name in ("sklearn", "PIL") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"The demo needs {' and '.join(missing)}: pip install convpool[demo]", file=sys.stderr)
        return 1
    show_photographs(options.output)
    if not options.no_digits:
        print()
        classify_digits()
    return 0
