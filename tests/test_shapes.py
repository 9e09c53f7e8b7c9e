"""The shape lists against published figures of the networks."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from npconv import _npconv, shapes

# network: published GMAC as rounded there, and GMAC of its fully connected layers, which the lists leave out.
# Sources: torchvision's model pages (its "GFLOPS" are multiply-adds); C3D: Tran et al. 2018 (arXiv 1711.11248).
PUBLISHED = {
    "resnet18": (1.81, 512e3 / 1e9),
    "resnet50": (4.09, 2048e3 / 1e9),
    "vgg16": (15.47, (25088 * 4096 + 4096 * 4096 + 4096 * 1000) / 1e9),
    "mobilenet_v2": (0.30, 1280e3 / 1e9),
    "efficientnet_b0": (0.39, 1280e3 / 1e9),
    "convnext_tiny": (4.46, 768e3 / 1e9),
    "deeplab_v3": (178.72, 0.0),
    "c3d": (38.5, 0.0),
}
CONVOLUTIONS = {
    "resnet18": 20,
    "resnet50": 53,
    "vgg16": 13,
    "mobilenet_v2": 52,
    "efficientnet_b0": 81,
    "convnext_tiny": 58,
    "unet": 19,
    "deeplab_v3": 63,
    "wavenet": 63,
    "c3d": 8,
}
# Convolution weights: torchvision's parameter counts without fully connected layers, normalisation and biases.
WEIGHTS = {"resnet18": 11_166_912, "resnet50": 23_454_912, "vgg16": 14_710_464, "mobilenet_v2": 2_189_760}


def parsed(network: str) -> list[tuple[dict, int]]:
    return [(_npconv.parse_descriptor(layer.descriptor), layer.count) for layer in shapes.load(network)]


def weights(network: str) -> int:
    total = 0
    for problem, count in parsed(network):
        kd, kh, kw = problem["kernel"]
        total += count * problem["oc"] * (problem["ic"] // problem["g"]) * kd * kh * kw
    return total


def test_there_are_ten_networks():
    assert shapes.networks() == sorted(CONVOLUTIONS)


@pytest.mark.parametrize("network", sorted(PUBLISHED))
def test_multiply_adds_are_the_published_ones(network):
    published, fully_connected = PUBLISHED[network]
    total = sum(count * problem["macs"] for problem, count in parsed(network)) / 1e9 + fully_connected
    unit = 0.1 if network == "c3d" else 0.01
    assert abs(total - published) <= 0.5 * unit + 1e-9


@pytest.mark.parametrize("network", sorted(WEIGHTS))
def test_weights_are_the_published_ones(network):
    assert weights(network) == WEIGHTS[network]


def test_unet_has_the_published_number_of_parameters():
    widths = (32, 64, 128, 256, 512)
    transposed = sum(4 * low * high + low for low, high in itertools.pairwise(widths))
    normalisation = 4 * (2 * sum(widths) - widths[-1])  # two layers a block, scale and offset each
    last_bias = 1
    assert weights("unet") + transposed + normalisation + last_bias == 7_763_041


def test_wavenet_is_the_sum_of_its_layers():
    layer = 2 * 64 * 128 + 64 * 64 + 64 * 256
    expected = 16000 * (2 * 256 * 64 + 20 * layer + 2 * 256 * 256)
    assert sum(count * problem["macs"] for problem, count in parsed("wavenet")) == expected


@pytest.mark.parametrize("network", sorted(CONVOLUTIONS))
def test_lines_are_canonical_and_distinct(network):
    layers = shapes.load(network)
    assert sum(layer.count for layer in layers) == CONVOLUTIONS[network]
    keys = {_npconv.wisdom_key(layer.descriptor) for layer in layers}
    assert len(keys) == len(layers)
    for layer in layers:
        assert _npconv.parse_descriptor(layer.descriptor)["descriptor"] == layer.descriptor
        assert layer.name


def test_files_are_what_the_generator_writes():
    script = Path(__file__).parents[1] / "bench" / "make_shapes.py"
    result = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_files_hold_canonical_descriptors():
    for path in (Path(__file__).parents[1] / "bench" / "shapes").glob("*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                text = line.split()[0]
                assert _npconv.parse_descriptor(text)["descriptor"] == text
