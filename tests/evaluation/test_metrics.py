"""Metrics against a brute-force twin, scikit-learn, and random orders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from lapis.evaluation.metrics import (
    average_precisions,
    chance_average_precision,
    chance_recall,
    cosine_similarity,
    ranks,
    retrieval_scores,
)


def worst_order(similarity: np.ndarray, relevant: np.ndarray) -> list[bool]:
    """Relevance down the list that a query gets, the irrelevant first among equals."""
    return [hit for _, hit in sorted(zip(-similarity, relevant), key=lambda pair: (pair[0], pair[1]))]


def plain_rank(similarity: np.ndarray, relevant: np.ndarray) -> int:
    return 1 + worst_order(similarity, relevant).index(True)


def plain_average_precision(similarity: np.ndarray, relevant: np.ndarray, depth: int) -> float:
    order = worst_order(similarity, relevant)[:depth]
    total = sum(sum(order[: place + 1]) / (place + 1) for place, hit in enumerate(order) if hit)
    return total / min(depth, sum(relevant))


@st.composite
def rankings(draw, *, ties: bool = True):
    queries, candidates = draw(st.integers(1, 6)), draw(st.integers(1, 15))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    similarity = (
        generator.integers(0, 4, (queries, candidates)) / 4 if ties else generator.random((queries, candidates))
    )
    relevant = generator.random((queries, candidates)) < draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    relevant[np.arange(queries), generator.integers(0, candidates, queries)] = True
    return similarity, relevant


@given(rankings())
def test_equals_the_plain_twin(ranking):
    similarity, relevant = ranking
    np.testing.assert_array_equal(ranks(similarity, relevant=relevant), list(map(plain_rank, similarity, relevant)))
    for depth in (1, 3, 10):
        np.testing.assert_allclose(
            average_precisions(similarity, relevant=relevant, depth=depth),
            [plain_average_precision(*query, depth) for query in zip(similarity, relevant)],
        )
    scores = retrieval_scores(similarity, relevant=relevant)
    all_ranks = np.array(list(map(plain_rank, similarity, relevant)))
    assert scores.recall_at_1 == pytest.approx((all_ranks <= 1).mean())
    assert scores.recall_at_5 == pytest.approx((all_ranks <= 5).mean())
    assert scores.recall_at_10 == pytest.approx((all_ranks <= 10).mean())
    assert scores.median_rank == np.median(all_ranks)
    assert (scores.num_queries, scores.num_candidates) == similarity.shape


@given(rankings(ties=False))
def test_equals_scikit_learn_where_nothing_ties_and_nothing_is_cut(ranking):
    similarity, relevant = ranking
    depth = similarity.shape[1]
    ours = average_precisions(similarity, relevant=relevant, depth=depth)
    np.testing.assert_allclose(ours, [average_precision_score(*query) for query in zip(relevant, similarity)])
    np.testing.assert_allclose(ours.mean(), label_ranking_average_precision_score(relevant, similarity))


@given(rankings())
def test_the_transposed_view_gives_the_same(ranking):
    similarity, relevant = ranking
    as_view = np.asfortranarray(similarity), np.asfortranarray(relevant)
    assert retrieval_scores(as_view[0], relevant=as_view[1]) == retrieval_scores(similarity, relevant=relevant)


def test_ties_count_against_the_model():
    similarity, relevant = np.zeros((2, 4)), np.eye(4, dtype=bool)[:2]
    assert ranks(similarity, relevant=relevant).tolist() == [4, 4]
    similarity[0, 0] = 1
    assert ranks(similarity, relevant=relevant).tolist() == [1, 4]
    assert retrieval_scores(similarity, relevant=relevant).recall_at_1 == 0.5


def test_chance_is_what_random_orders_give():
    generator = np.random.default_rng(0)
    relevant = np.zeros((3, 12), dtype=bool)
    for query, number in enumerate((1, 4, 11)):
        relevant[query, :number] = True
    runs = [retrieval_scores(generator.random(relevant.shape), relevant=relevant) for _ in range(2000)]
    for name in ("recall_at_1", "recall_at_5", "recall_at_10", "mean_average_precision_at_10"):
        measured = np.mean([getattr(run, name) for run in runs])
        assert getattr(runs[0], f"chance_{name}") == pytest.approx(measured, abs=0.02), name


def test_chance_in_closed_form():
    one = np.array([1])
    assert chance_recall(one, num_candidates=100, depth=10) == pytest.approx(0.1)
    assert chance_recall(one, num_candidates=5, depth=10) == pytest.approx(1)
    assert chance_recall(np.array([2, 3]), num_candidates=4, depth=1) == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert chance_average_precision(one, num_candidates=1, depth=10) == 1
    assert chance_average_precision(one, num_candidates=4, depth=2) == pytest.approx((1 + 1 / 2) / 4)


def test_several_relevant_candidates_beyond_the_depth_do_not_lower_the_precision():
    similarity = -np.arange(30.0)[None]
    relevant = np.arange(30)[None] < 20
    assert retrieval_scores(similarity, relevant=relevant).mean_average_precision_at_10 == 1


def test_nan_is_refused():
    similarity = np.zeros((2, 2))
    similarity[1, 0] = np.nan
    for function in (ranks, retrieval_scores):
        with pytest.raises(ValueError, match="query 1 and candidate 0 is NaN"):
            function(similarity, relevant=np.eye(2, dtype=bool))
    vectors = np.ones((3, 2), np.float32)
    broken = vectors.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ValueError, match="the vector of candidate 2 is not finite"):
        cosine_similarity(vectors, candidates=broken)


def test_a_query_without_an_answer_is_named():
    relevant = np.array([[True, False], [False, False]])
    with pytest.raises(ValueError, match="query 1 has no relevant candidate"):
        ranks(np.zeros((2, 2)), relevant=relevant)
    with pytest.raises(ValueError, match=r"query 1 \('rain'\) has no relevant candidate"):
        retrieval_scores(np.zeros((2, 2)), relevant=relevant, query_names=["wind", "rain"])


def test_nothing_to_rank():
    for shape in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match=r"nothing to rank: . queries and . candidates"):
            retrieval_scores(np.zeros(shape), relevant=np.zeros(shape, dtype=bool))


@pytest.mark.parametrize("width", [3, 64, 1024])
def test_equal_vectors_tie_exactly(width):
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((2, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = cosine_similarity(np.repeat(vectors[:1], 37, axis=0), candidates=np.repeat(vectors[1:], 203, axis=0))
    assert len(np.unique(similarity)) == 1
