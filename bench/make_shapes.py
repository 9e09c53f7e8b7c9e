"""Writes bench/shapes/*.txt: the convolution layers of ten published networks.

    python bench/make_shapes.py            # write the files
    python bench/make_shapes.py --check    # exit code 1 if a file differs from what would be written

Every network is spelled out from its published definition (the source stands at the top of each file).
Fully connected layers and transposed convolutions are left out. Batch normalisation counts as folded into the
bias, so every layer has one. A layer that occurs several times is one line with its count; layers that differ
in nothing but their activation are one line too, because the choice of an algorithm does not depend on it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Axes = tuple[int, int, int]  # depth, height, width


@dataclass
class Net:
    """The layers of one network, in order of first occurrence; merges equal ones."""

    title: str
    source: str
    lines: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def conv(
        self,
        name: str,
        ic: int,
        size: Axes,
        oc: int,
        kernel: int | Axes,
        *,
        stride: int | Axes = 1,
        pad: int | Axes | None = None,
        pad_end: Axes | None = None,
        dilation: int = 1,
        groups: int = 1,
        act: str = "relu",
    ) -> Axes:
        """Adds a layer and returns its output size. pad=None means 'keeps the size' for odd kernels."""
        volume = size[0] > 1
        k = _axes(kernel, size)
        s = _axes(stride, size)
        d = _axes(dilation, size)
        if pad is None:
            p = tuple(e * (n - 1) // 2 for e, n in zip(d, k, strict=True))
        elif isinstance(pad, int):
            p = tuple(pad if n > 1 else 0 for n in k)
        else:
            p = pad
        q = p if pad_end is None else pad_end
        first = 0 if volume else 1
        text = "_".join(
            [
                f"fwd_f32_mb1_g{groups}",
                f"ic{ic}" + _fields(("id", "ih", "iw"), size, first),
                f"oc{oc}" + _fields(("kd", "kh", "kw"), k, first),
                _fields(("sd", "sh", "sw"), s, first),
                _fields(("pf", "pt", "pl"), p, first) + _fields(("pe", "pb", "pr"), q, first),
                _fields(("dd", "dh", "dw"), d, first),
                "nchw_zeros_standard_const_bias",
            ]
        )
        old = self.lines.get(text)
        self.lines[text] = (old[0], old[1], old[2] + 1) if old else (name, act, 1)
        out = [(i + a + b - e * (n - 1) - 1) // t + 1 for i, a, b, e, n, t in zip(size, p, q, d, k, s, strict=True)]
        return out[0], out[1], out[2]

    def text(self) -> str:
        head = f"# {self.title}\n# Source: {self.source}\n"
        body = (
            f"{text}{'_' + act if act else ''}  # {name} x{count}\n" for text, (name, act, count) in self.lines.items()
        )
        return head + "".join(body)


def _axes(value: int | Axes, size: Axes) -> Axes:
    """An int applies to every axis that the image has; 1-D and 2-D images have depth (and height) 1."""
    if not isinstance(value, int):
        return value
    return (value if size[0] > 1 else 1), (value if size[0] > 1 or size[1] > 1 else 1), value


def _fields(names: tuple[str, str, str], values: Axes | tuple[int, ...], first: int) -> str:
    return "".join(f"{n}{v}" for n, v in list(zip(names, values, strict=True))[first:])


def half(size: Axes) -> Axes:
    """A 2x2 pooling (2x2x2 for volumes)."""
    return max(1, size[0] // 2), max(1, size[1] // 2), size[2] // 2


def square(n: int) -> Axes:
    return 1, n, n


def resnet(net: Net, blocks: tuple[int, int, int, int], bottleneck: bool, size: Axes, dilate: bool = False) -> Axes:
    """torchvision's ResNet (v1.5: the stride is in the 3x3). dilate: the last two stages dilate instead."""
    size = net.conv("conv1", 3, size, 64, 7, stride=2, pad=3)
    size = square((size[1] + 2 - 3) // 2 + 1)  # 3x3 maximum pooling, stride 2
    ic, dilation = 64, 1
    for stage, count in enumerate(blocks):
        width = 64 << stage
        oc = width * (4 if bottleneck else 1)
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            stride, before = (2 if stage and block == 0 else 1), dilation
            if dilate and stage >= 2 and block == 0:
                dilation, stride = dilation * 2, 1
            # As torchvision: a stage's first block still uses the dilation of the stage before.
            d = before if block == 0 else dilation
            if bottleneck:
                net.conv(f"{name}.conv1", ic, size, width, 1)
                after = net.conv(f"{name}.conv2", width, size, width, 3, stride=stride, dilation=d)
                net.conv(f"{name}.conv3", width, after, oc, 1)
            else:
                after = net.conv(f"{name}.conv1", ic, size, width, 3, stride=stride)
                net.conv(f"{name}.conv2", width, after, width, 3)
            if block == 0 and (stride != 1 or ic != oc):
                net.conv(f"{name}.downsample", ic, size, oc, 1, stride=stride, pad=0, act="")
            ic, size = oc, after
    return size


def resnet18() -> Net:
    net = Net("ResNet-18, 224x224", "He et al. 2015 (arXiv 1512.03385), table 1, as torchvision.models.resnet18")
    resnet(net, (2, 2, 2, 2), False, square(224))
    return net


def resnet50() -> Net:
    net = Net(
        "ResNet-50 v1.5, 224x224",
        "He et al. 2015 (arXiv 1512.03385), table 1, as torchvision.models.resnet50 (stride in the 3x3)",
    )
    resnet(net, (3, 4, 6, 3), True, square(224))
    return net


def vgg16() -> Net:
    net = Net(
        "VGG-16, 224x224", "Simonyan, Zisserman 2014 (arXiv 1409.1556), configuration D, as torchvision.models.vgg16"
    )
    size, ic, index = square(224), 3, 0
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            size = net.conv(f"features.{index}", ic, size, width, 3)
            ic, index = width, index + 2
        size, index = half(size), index + 1
    return net


def mobilenet_v2() -> Net:
    net = Net(
        "MobileNetV2 1.0, 224x224",
        "Sandler et al. 2018 (arXiv 1801.04381), table 2, as torchvision.models.mobilenet_v2",
    )
    size = net.conv("features.0", 3, square(224), 32, 3, stride=2, act="clip")
    ic, index = 32, 1
    for t, c, n, s in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for block in range(n):
            name, mid = f"features.{index}", ic * t
            if t > 1:
                net.conv(f"{name}.expand", ic, size, mid, 1, act="clip")
            size = net.conv(
                f"{name}.depthwise", mid, size, mid, 3, stride=s if block == 0 else 1, groups=mid, act="clip"
            )
            net.conv(f"{name}.project", mid, size, c, 1, act="")
            ic, index = c, index + 1
    net.conv(f"features.{index}", ic, size, 1280, 1, act="clip")
    return net


def efficientnet_b0() -> Net:
    net = Net(
        "EfficientNet-B0, 224x224",
        "Tan, Le 2019 (arXiv 1905.11946), table 1, as torchvision.models.efficientnet_b0 (squeeze-and-excitation "
        "as 1x1 on 1x1 maps)",
    )
    size = net.conv("features.0", 3, square(224), 32, 3, stride=2, act="silu")
    ic, one = 32, square(1)
    rows = (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    )
    for stage, (t, k, s, c, n) in enumerate(rows):
        for block in range(n):
            name, mid, squeeze = f"features.{stage + 1}.{block}", ic * t, ic // 4
            if t > 1:
                net.conv(f"{name}.expand", ic, size, mid, 1, act="silu")
            size = net.conv(
                f"{name}.depthwise", mid, size, mid, k, stride=s if block == 0 else 1, groups=mid, act="silu"
            )
            net.conv(f"{name}.se.fc1", mid, one, squeeze, 1, act="silu")
            net.conv(f"{name}.se.fc2", squeeze, one, mid, 1, act="sigmoid")
            net.conv(f"{name}.project", mid, size, c, 1, act="")
            ic = c
    net.conv("features.8", ic, size, 1280, 1, act="silu")
    return net


def convnext_tiny() -> Net:
    net = Net(
        "ConvNeXt-T, 224x224",
        "Liu et al. 2022 (arXiv 2201.03545), as torchvision.models.convnext_tiny; the blocks' linear layers are "
        "written as the 1x1 convolutions that they are",
    )
    size = net.conv("features.0", 3, square(224), 96, 4, stride=4, pad=0, act="")
    ic = 96
    for stage, (width, count) in enumerate(((96, 3), (192, 3), (384, 9), (768, 3))):
        if stage:
            size = net.conv(f"features.{2 * stage}.downsample", ic, size, width, 2, stride=2, pad=0, act="")
        for block in range(count):
            name = f"features.{2 * stage + 1}.{block}"
            net.conv(f"{name}.depthwise", width, size, width, 7, groups=width, act="")
            net.conv(f"{name}.expand", width, size, 4 * width, 1, act="gelu")
            net.conv(f"{name}.project", 4 * width, size, width, 1, act="")
        ic = width
    return net


def unet() -> Net:
    net = Net(
        "U-Net for 256x256 images, 32 channels in the first stage",
        "Ronneberger et al. 2015 (arXiv 1505.04597) as in Buda et al. 2019 (torch.hub "
        "mateuszbuda/brain-segmentation-pytorch); "
        "without the four transposed 2x2 convolutions",
    )
    size, ic, sizes = square(256), 3, []
    for level in range(5):
        width, name = 32 << level, f"encoder{level + 1}" if level < 4 else "bottleneck"
        net.conv(f"{name}.conv1", ic, size, width, 3)
        net.conv(f"{name}.conv2", width, size, width, 3)
        sizes.append(size)
        ic, size = width, half(size)
    for level in (3, 2, 1, 0):
        width, name = 32 << level, f"decoder{level + 1}"
        net.conv(f"{name}.conv1", 2 * width, sizes[level], width, 3)
        net.conv(f"{name}.conv2", width, sizes[level], width, 3)
    net.conv("conv", 32, sizes[0], 1, 1, act="sigmoid")
    return net


def deeplab_v3() -> Net:
    net = Net(
        "DeepLabV3 with ResNet-50, 520x520, output stride 8, 21 classes",
        "Chen et al. 2017 (arXiv 1706.05587), as torchvision.models.segmentation.deeplabv3_resnet50, auxiliary "
        "head included",
    )
    size = resnet(net, (3, 4, 6, 3), True, square(520), dilate=True)
    net.conv("classifier.aspp.0", 2048, size, 256, 1)
    for index, rate in enumerate((12, 24, 36)):
        net.conv(f"classifier.aspp.{index + 1}", 2048, size, 256, 3, dilation=rate)
    net.conv("classifier.aspp.pool", 2048, square(1), 256, 1)
    net.conv("classifier.aspp.project", 5 * 256, size, 256, 1)
    net.conv("classifier.1", 256, size, 256, 3)
    net.conv("classifier.4", 256, size, 21, 1, act="")
    net.conv("aux_classifier.0", 1024, size, 256, 3)
    net.conv("aux_classifier.4", 256, size, 21, 1, act="")
    return net


def wavenet() -> Net:
    net = Net(
        "WaveNet, one second of audio at 16 kHz: 20 gated layers, 64 residual, 256 skip and 256 output channels",
        "van den Oord et al. 2016 (arXiv 1609.03499) in the size of Deep Voice (arXiv 1702.07825) and NVIDIA's "
        "nv-wavenet: "
        "kernel 2, dilations 1..512 twice; 1-D as 2-D with height 1, causal padding on the left",
    )
    size: Axes = (1, 1, 16000)
    net.conv("front", 256, size, 64, (1, 1, 2), pad=(0, 0, 1), pad_end=(0, 0, 0), act="")
    for layer in range(20):
        d = 1 << layer % 10
        net.conv(
            f"layer{layer}.dilated", 64, size, 128, (1, 1, 2), pad=(0, 0, d), pad_end=(0, 0, 0), dilation=d, act=""
        )
        net.conv(f"layer{layer}.residual", 64, size, 64, 1, act="")
        net.conv(f"layer{layer}.skip", 64, size, 256, 1, act="")
    net.conv("output.0", 256, size, 256, 1)
    net.conv("output.1", 256, size, 256, 1, act="")
    return net


def c3d() -> Net:
    net = Net("C3D, 16 frames of 112x112", "Tran et al. 2015 (arXiv 1412.0767), figure 3")
    size: Axes = (16, 112, 112)
    ic = 3
    for stage, (width, count) in enumerate(((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))):
        for index in range(count):
            size = net.conv(f"conv{stage + 1}{'ab'[index]}", ic, size, width, 3)
            ic = width
        size = (size[0], size[1] // 2, size[2] // 2) if stage == 0 else half(size)
    return net


NETWORKS: tuple[Callable[[], Net], ...] = (
    resnet18,
    resnet50,
    vgg16,
    mobilenet_v2,
    efficientnet_b0,
    convnext_tiny,
    unet,
    deeplab_v3,
    wavenet,
    c3d,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    check = parser.parse_args().check
    folder = Path(__file__).parent / "shapes"
    stale = []
    for build in NETWORKS:
        path, text = folder / f"{build.__name__}.txt", build().text()
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        print("differs from what make_shapes.py writes:", ", ".join(stale))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
