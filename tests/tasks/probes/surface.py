"""How far a classifier gets that sees words, word pairs, lengths and overlap, but no meaning."""

import re
from itertools import pairwise

import numpy as np
import pytest

from supermask.tasks import Examples

pytest.importorskip("sklearn")
from scipy.sparse import csr_matrix, hstack
from scipy.stats import pearsonr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler


def tokens(text: str) -> list[str]:
    return re.findall(r"[a-z]+|,", text.lower())


def replaced(first: str, second: str) -> list[tuple[str, str]]:
    """The words in which two sentences of one length differ."""
    return [(one, two) for one, two in zip(tokens(first), tokens(second), strict=True) if one != two]


def _bags(examples: Examples) -> list[str]:
    """Each row as one text whose words and word pairs are marked by the sentence that they stand in."""
    columns = [examples.first] if examples.second is None else [examples.first, examples.second]
    rows = []
    for texts in zip(*columns, strict=True):
        marked = []
        for side, text in enumerate(texts):
            words = tokens(text)
            marked += [f"{side}:{word}" for word in words]
            marked += [f"{side}:{one}_{two}" for one, two in pairwise(words)]
        rows.append(" ".join(marked))
    return rows


def _numbers(examples: Examples) -> np.ndarray:
    """Lengths in words and letters, and for pairs how many words and letters the sentences share."""
    rows = []
    for index, first in enumerate(examples.first):
        one = tokens(first)
        row = [len(one), len(first), first.count(",")]
        if examples.second is not None:
            second = examples.second[index]
            two = tokens(second)
            shared = len(set(one) & set(two))
            row += [len(two), len(second), shared, shared / len(set(one) | set(two)), abs(len(first) - len(second))]
        rows.append(row)
    return np.array(rows, dtype=float)


def surface_score(train: Examples, dev: Examples) -> float:
    """Accuracy (graded: Pearson's correlation) on dev of a linear model of surface features fitted to train."""
    vectorizer = CountVectorizer(analyzer=str.split)
    scaler = StandardScaler()
    features = hstack([vectorizer.fit_transform(_bags(train)), csr_matrix(scaler.fit_transform(_numbers(train)))])
    seen = hstack([vectorizer.transform(_bags(dev)), csr_matrix(scaler.transform(_numbers(dev)))])
    assert train.labels is not None and dev.labels is not None
    if isinstance(train.labels[0], float):
        predicted = Ridge(alpha=1.0).fit(features, train.labels).predict(seen)
        return float(pearsonr(predicted, dev.labels)[0])
    model = LogisticRegression(max_iter=2000).fit(features, train.labels)
    return float(np.mean(model.predict(seen) == np.array(dev.labels)))
