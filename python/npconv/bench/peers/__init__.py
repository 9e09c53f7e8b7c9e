"""What a worker process runs: one module per peer, a description of the problem, the worker's loop.

A worker may belong to another Python interpreter than npconv's own (torch often lives in an environment of its
own), so nothing in this folder imports the rest of npconv; all that it needs is NumPy and the peer. It is imported
there as the top-level package `peers`. A new peer is a module `<name>_peer.py` with a class `Peer`, and a line here.
"""

from __future__ import annotations

#: Name -> whether it runs on GNU OpenMP, which needs OMP_PROC_BIND to use two cores reliably.
PEERS: dict[str, bool] = {"npconv": True, "torch": True, "ncnn": True}
