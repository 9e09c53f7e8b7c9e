"""The accuracy classes as the documentation promises them; the tests don't read the library's own table."""

from __future__ import annotations

import numpy as np

# class: (c, t) for float32.  Any finite data: |error| <= c * S, S = max of conv(|x|, |w|) + |bias|; with winograd and fft
# max |x| * the largest sum of an output channel's |w|, the same but for sparse data.
# N(0, 1) data: |error| <= t * max|y|.
CLASSES = {"strict": (4e-6, 1e-6), "standard": (1e-5, 1e-5), "fast": (1e-3, 1e-3)}


def bounds(accuracy: str, dtype: object) -> tuple[float, float]:
    c, t = CLASSES[accuracy]
    ratio = float(np.finfo(np.dtype(dtype)).eps / np.finfo(np.float32).eps)
    return c * ratio, t * ratio
