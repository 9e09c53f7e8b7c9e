"""Algorithm x ISA x shape x dtype x layout x epilogue x threads: a covering sample, and with `-m full` the product."""

from __future__ import annotations

import dataclasses
import itertools

import matrix
import pytest

from npconv import _npconv

AVAILABLE = _npconv.isa_levels()
SAMPLE = matrix.sample()


def ask(workers, isa, cases):
    if isa not in AVAILABLE:
        pytest.skip(f"this CPU lacks {isa}")
    answers = workers.ask(isa, [dataclasses.asdict(case) for case in cases])
    if isinstance(answers, str):
        pytest.fail(answers)
    failures = [f"{case.id}: {a[1]}" for case, a in zip(cases, answers, strict=True) if a and a[0] == "failed"]
    if failures:
        more = f"\n... {len(failures)} of {len(cases)} failed" if len(cases) > 1 else ""
        pytest.fail("\n".join(failures[:5]) + more, pytrace=False)
    return answers


@pytest.mark.parametrize("case", SAMPLE, ids=[case.id for case in SAMPLE])
def test_case(workers, case):
    ask(workers, case.isa, [case])


FULL = list(itertools.product(matrix.ALGORITHMS, matrix.ISAS, matrix.SHAPES))


@pytest.mark.full
@pytest.mark.parametrize(("algorithm", "isa", "shape"), FULL, ids=["-".join(row) for row in FULL])
def test_full_product(workers, algorithm, isa, shape):
    ask(workers, isa, matrix.full(algorithm, isa, shape))


def test_the_matrix_knows_all_algorithms_and_levels():
    """A new algorithm or ISA level has to enter the matrix: one line in matrix.py."""
    assert set(_npconv.algorithms()) == set(matrix.ALGORITHMS)
    assert set(_npconv.all_isa_levels()) <= set(matrix.ISAS)


@pytest.mark.parametrize("algorithm", matrix.ALGORITHMS)
def test_the_sample_covers_every_pair(algorithm):
    taken = [n for n, s in matrix.SHAPES.items() if matrix.PROMISED[algorithm](s)]
    factors = {**matrix.FACTORS, "shape": taken}
    rows = [case for case in SAMPLE if case.algorithm == algorithm]
    for f, g in itertools.combinations(factors, 2):
        seen = {(getattr(c, f), getattr(c, g)) for c in rows}
        assert seen >= set(itertools.product(factors[f], factors[g])), (f, g)
    assert {case.shape for case in rows} == set(matrix.SHAPES)
