"""Facts about rank statistics. The AUC and Spearman's correlation of data come from scikit-learn and SciPy."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm, spearmanr
from sklearn.metrics import roc_auc_score

from kexue_utils.ranking import auc_from_spearman, spearman_from_auc


@pytest.mark.parametrize(
    ("auc", "p", "n", "rho"),
    [
        (0.75, 0.5, 1000, 0.43301291839873),
        (0.8, 0.2, 100, 0.4157129799852),
        (1, 0.5, 10, 0.87038827977849),
        (1, 0.18, 10**6, 0.6654321903849),
        (1, 0.5, None, 0.8660254037844386),
        (1, 0.2, None, 0.692820323027551),
        (1, 0.1, None, 0.5196152422706632),
        (1, 0.3, None, sqrt(0.63)),
        (0.8, 0.5, None, 0.5196152422706632),
        (0.8, 0.2, None, 0.41569219381653066),
        (norm.cdf(1 / sqrt(2)), 0.5, None, 0.45076611685279),
    ],
)
def test_reference_values(auc, p, n, rho):
    assert spearman_from_auc(auc, p, n) == pytest.approx(rho, rel=2e-13)
    assert auc_from_spearman(rho * (1 - 1e-12), p, n) == pytest.approx(
        auc, rel=4e-12
    )  # rounded, it may lie above the ceiling


def test_eight_scores_and_their_labels():
    scores, labels = (0.1, 0.4, 0.35, 0.8, 0.7, 0.2, 0.9, 0.5), (0, 0, 1, 1, 1, 0, 1, 0)
    assert spearmanr(scores, labels)[0] == pytest.approx(0.6546536707079771, rel=1e-14)
    assert spearman_from_auc(roc_auc_score(labels, scores), 0.5, 8) == pytest.approx(0.6546536707079771, rel=1e-14)


@given(st.integers(0, 10**6), st.integers(2, 60))
def test_untied_scores_have_the_spearman_of_their_auc(seed, n):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 2, n), rng.permutation(n)
    assume(0 < labels.sum() < n)
    auc, rho = roc_auc_score(labels, scores), spearmanr(scores, labels)[0]
    assert spearman_from_auc(auc, labels.mean(), n) == pytest.approx(rho, abs=1e-12)
    assert auc_from_spearman(rho, labels.mean(), n) == pytest.approx(auc, abs=1e-12)


def test_the_rule_of_thumb_for_accuracy_errs_both_ways():
    def too_high(distance):
        return 0.5 + spearman_from_auc(norm.cdf(distance / sqrt(2)), 0.5) / 2 - norm.cdf(distance / 2)

    assert norm.cdf(0.5) == pytest.approx(0.69146246127401, rel=1e-13)
    assert too_high(1) == pytest.approx(0.0339205971524, rel=1e-11)
    assert too_high(1.2735) == pytest.approx(0.0359, abs=5e-5)
    assert max(too_high(d) for d in np.linspace(0.01, 12, 1200)) <= too_high(1.2735) + 1e-6
    assert too_high(2.6304) == pytest.approx(0, abs=1e-5)
    assert too_high(40) == pytest.approx((sqrt(3) - 2) / 4, rel=1e-12)


def test_a_point_of_spearman_is_worth_more_auc_where_ones_are_rare():
    for p, slope in ((0.5, 0.577), (0.18, 0.751)):
        assert auc_from_spearman(0.4, p) - auc_from_spearman(0.3, p) == pytest.approx(slope / 10, abs=5e-5)
    assert auc_from_spearman(0.3, 0.2) == pytest.approx(0.5 + 0.3 / (2 * sqrt(0.48)), rel=1e-14)


def test_arguments_broadcast_and_errors_name_them():
    assert spearman_from_auc([[0.6], [0.9]], [0.1, 0.5, 0.9], 50).shape == (2, 3)
    for call, message in (
        (lambda: spearman_from_auc(1.1, 0.5), "auc must be from 0 to 1, got 1.1"),
        (lambda: spearman_from_auc(0.5, [0.5, 1]), "p must be between 0 and 1, got 1.0"),
        (lambda: spearman_from_auc(0.5, 0.5, 1), "n must be at least 2, got 1.0"),
        (lambda: auc_from_spearman(0.7, 0.2), "rho must be not above the ceiling of labels with this p, got 0.7"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert auc_from_spearman(-spearman_from_auc(1, 0.3), 0.3) == 0
