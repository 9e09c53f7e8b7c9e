"""Measures layers against other libraries and writes the result to a file.

    python bench/run.py resnet50 vgg16 --peers torch ncnn --python /path/to/peers/bin/python --json out.json

Arguments that end in .json are results of earlier runs: they are added to the tables and to the new file.
What `npconv bench` does, for those who have no command line extra or want the rows as a file; see bench/README.md.
"""

from __future__ import annotations

import argparse
import sys

from npconv import bench, shapes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layers", nargs="+", help="networks, descriptors, files of descriptors, results")
    parser.add_argument("--peers", nargs="*", default=[], help="torch, ncnn")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.0, help="for one layer and thread count")
    parser.add_argument("--nhwc", action="store_true", help="all layers in channels-last order, which peers may choose anyway")
    parser.add_argument("--python", help="the peers' interpreter, if it is not this one")
    parser.add_argument("--json", help="where to write the rows")
    options = parser.parse_args()
    earlier = [name for name in options.layers if name.endswith(".json")]
    rows = [row for name in earlier for row in bench.load(name)]
    wanted = [name for name in options.layers if name not in earlier]
    descriptors = [layer.descriptor for layer in shapes.resolve(wanted)]
    if options.nhwc:
        descriptors = [descriptor.replace("_nchw_", "_nhwc_") for descriptor in descriptors]

    def progress(done: int, total: int, rows: list[bench.Row]) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    if descriptors:
        rows += bench.run(descriptors, options.peers, options.threads, options.seconds, progress, python=options.python)
    if options.json:
        bench.save(options.json, rows)
    print(bench.render(rows))
    return 1 if any("failed" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
