"""Metrics against a brute-force twin, scikit-learn, and random orders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from lapis.evaluation import metrics
from lapis.evaluation.metrics import (
    average_precisions,
    chance_average_precision,
    chance_median_rank,
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


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_captions_of_uneven_number_by_a_plain_loop(clips, seed):
    """As GLAP's evaluation counts: every caption asks for its clip; a clip is answered by any of its captions."""
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(clips), random.integers(1, 6, clips))
    similarity = random.random((len(owner), clips))
    relevant = owner[:, None] == np.arange(clips)
    to_audio, to_text = (
        retrieval_scores(similarity, relevant=relevant),
        retrieval_scores(similarity.T, relevant=relevant.T),
    )
    ranks_of_captions = [1 + sorted(-row).index(-row[clip]) for row, clip in zip(similarity, owner)]
    assert to_audio.recall_at_5 == pytest.approx(np.mean([rank <= 5 for rank in ranks_of_captions]))
    assert to_audio.mean_average_precision_at_10 == pytest.approx(
        np.mean([1 / rank if rank <= 10 else 0 for rank in ranks_of_captions])
    )
    precisions, firsts = [], []
    for clip in range(clips):
        order = np.argsort(-similarity[:, clip])
        places = [place for place, caption in enumerate(order, start=1) if owner[caption] == clip]
        precisions.append(sum(hit / place for hit, place in enumerate(places, 1) if place <= 10) / len(places))
        firsts.append(places[0])
    assert to_text.mean_average_precision_at_10 == pytest.approx(np.mean(precisions))
    assert to_text.recall_at_1 == pytest.approx(np.mean([first == 1 for first in firsts]))
    assert to_text.mean_rank == pytest.approx(np.mean(firsts)) and to_text.median_rank == np.median(firsts)


def test_figures_have_intervals_and_items_whose_mean_they_are():
    random = np.random.default_rng(0)
    owner = np.repeat(np.arange(40), 5)
    similarity, relevant = random.random((200, 40)), owner[:, None] == np.arange(40)
    similarity[relevant] += 0.5
    scores = retrieval_scores(similarity, relevant=relevant, clusters=owner)
    assert list(scores.figures) == ["R@1", "R@5", "R@10", "mAP@10", "median rank", "mean rank"]
    for name, figure in scores.figures.items():
        assert figure.interval[0] <= figure.value <= figure.interval[1], name
        assert name == "median rank" or figure.value == pytest.approx(scores.items[name].mean())
    alone = retrieval_scores(similarity, relevant=relevant)
    assert alone == scores and alone.figures["R@1"].interval != scores.figures["R@1"].interval
    assert "ranks" not in scores.to_dict() and scores.to_dict()["mean_rank"] == scores.mean_rank


def test_the_expected_rank_of_a_random_order():
    random = np.random.default_rng(0)
    relevant = np.zeros((2, 20), dtype=bool)
    relevant[0, :1] = relevant[1, :6] = True
    means = [retrieval_scores(random.random((2, 20)), relevant=relevant).mean_rank for _ in range(3000)]
    assert retrieval_scores(np.zeros((2, 20)), relevant=relevant).chance_mean_rank == pytest.approx(
        np.mean(means), abs=0.1
    )


@pytest.mark.parametrize("counts", [(1,), (1, 6, 20), (3, 3), (19,), (10, 1)])
def test_the_median_rank_of_a_random_order(counts):
    """Against all ranks of many random orders."""
    relevant = np.arange(20) < np.array(counts)[:, None]
    random = np.random.default_rng(0)
    found = np.concatenate([ranks(random.random(relevant.shape), relevant=relevant) for _ in range(3000)])
    scores = retrieval_scores(np.zeros(relevant.shape), relevant=relevant)
    assert scores.figures["median rank"].chance == pytest.approx(np.median(found), abs=0.5)


def test_the_median_rank_of_a_random_order_in_closed_form():
    for candidates, expected in ((1, 1.0), (2, 1.5), (3, 2.0), (1000, 500.5)):
        assert chance_median_rank(np.array([1]), num_candidates=candidates) == expected
    assert chance_median_rank(np.array([5]), num_candidates=5) == 1
    assert chance_median_rank(np.array([1, 3]), num_candidates=3) == 1  # two thirds of all ranks


def test_large_rankings_are_cut_into_parts(monkeypatch):
    random = np.random.default_rng(0)
    similarity, relevant = random.random((30, 12)), random.random((30, 12)) < 0.3
    relevant[:, 0] = True
    whole = average_precisions(similarity, relevant=relevant, depth=10)
    monkeypatch.setattr(metrics, "_ENTRIES_AT_ONCE", 50)
    np.testing.assert_array_equal(average_precisions(similarity, relevant=relevant, depth=10), whole)
