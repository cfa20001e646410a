"""Train the offline moderation classifier and write its weights and figures into connectors/moderators.

    python -m infra.training.moderation ../shared/data

Rules
  * A flag that is absent means unknown: the text neither teaches nor measures that category.
  * What teaches: the moderation samples, and prompts of permissive licences as ordinary text. What only
    measures: everything else under promptfamilies, whose fillers may not be shipped in any form.
  * Every figure is measured on texts, prompts and templates that neither taught nor chose the operating
    point (FOLDS-fold).
  * The operating point of a category is its best F1 on the samples, moved up where ordinary prompts would
    suffer, and by a margin; the constant then puts it at a score of 0.5.
  * Same data, same weights: the solver starts from zero, the folds are seeded, values are rounded.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score, roc_auc_score

from connectors.embedders.wordllama import WordllamaEmbedder
from connectors.moderators.features import BUCKETS, grams, windows
from connectors.moderators.offline import CARD, FOLDER, WEIGHTS

NAME = "offline-1"
LABELS = {  # flag in the samples -> category, as the moderation endpoint names it
    "HR": "harassment",
    "H": "hate",
    "H2": "hate/threatening",
    "SH": "self-harm",
    "S": "sexual",
    "S3": "sexual/minors",
    "V": "violence",
    "V2": "violence/graphic",
}
PERMISSIVE = ("Apache-2.0", "CC0-1.0", "MIT")

FOLDS = 5
SEED = 1
INVERSE_PENALTY = 10.0
VECTOR_SCALE = 0.5  # the 256 dense values would outweigh the grams; chosen by cross-validated AUC
ORDINARY_WEIGHT = 0.3  # an ordinary prompt is an easy example and there are more of them than of samples
REJECTED_SHARE_MAX = 0.0002  # of held-out ordinary prompts, a category; eight of them stay well below 0.5 % together
# Log-odds added to every operating point: traffic repeats its templates, so one template just over the line
# costs hundreds of prompts at once; being wrong about a template is rarer than about a prompt.
MARGIN = 0.2
MEASURED_PROMPTS_MAX = 4_000

Flags = NDArray[np.float64]  # (samples, categories): 1, 0, or NaN for unknown
Scores = NDArray[np.float64]  # log-odds, (texts, categories)
Model = tuple[NDArray[np.float64], NDArray[np.float64]]  # constants, and weights with one row a category


@dataclass(frozen=True, slots=True)
class Data:
    samples: list[str]
    flags: Flags  # (samples, categories)
    sample_folds: NDArray[np.int64]
    teaching: list[str]  # ordinary prompts that may teach
    teaching_folds: NDArray[np.int64]
    measuring: list[str]  # ordinary prompts that only measure, of the templates of the same folds
    measuring_folds: NDArray[np.int64]


def main(folder: Path, into: Path = FOLDER) -> None:
    """Train, measure, write."""
    data = read(folder)
    features = Features()
    sample_scores, ordinary_scores = cross_validate(data, features)
    points = operating_points(data.flags, sample_scores, ordinary_scores)
    constants, by_feature = fit(features.of(data.samples), data.flags, features.of(data.teaching))
    np.savez_compressed(
        into / WEIGHTS,
        by_bucket=by_feature[:, :BUCKETS].T.astype(np.float16),
        by_dimension=(by_feature[:, BUCKETS:].T * VECTOR_SCALE).astype(np.float32),
        constant=np.round(constants - points, 4),
    )
    card = {"name": NAME, "categories": list(LABELS.values())} | figures(data, sample_scores, ordinary_scores)
    (into / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Data:
    """Read samples and prompts, and give each template a fold."""
    samples = _lines(folder / "moderation" / "samples.jsonl")
    flags = np.array([[np.nan if (flag := row.get(k)) is None else flag for k in LABELS] for row in samples], float)
    families = _lines(folder / "promptfamilies" / "families.jsonl")
    fold_of = {family["template_id"]: number % FOLDS for number, family in enumerate(families)}
    noise = [row["text"] for row in _lines(folder / "promptfamilies" / "noise.jsonl")]
    taught = [(row["template"], fold_of[row["template_id"]]) for row in families if row["licence"] in PERMISSIVE]
    taught += [(text, number % FOLDS) for number, text in enumerate(noise)]
    filled = _lines(folder / "promptfamilies" / "main.jsonl.gz")
    measured = [
        (row["text"], fold_of[row["template_id"]]) for row in filled[:: max(len(filled) // MEASURED_PROMPTS_MAX, 1)]
    ]
    measured += [(text, number % FOLDS) for number, text in enumerate(noise)]
    return Data(
        samples=[row["prompt"] for row in samples],
        flags=flags,
        sample_folds=_dealt(flags),
        teaching=[text for text, _ in taught],
        teaching_folds=np.array([fold for _, fold in taught]),
        measuring=[text for text, _ in measured],
        measuring_folds=np.array([fold for _, fold in measured]),
    )


class Features:
    """Turns texts into rows: gram weights, then the scaled word vector."""

    def __init__(self) -> None:
        self._embedder = WordllamaEmbedder()

    def of(self, texts: Sequence[str]) -> csr_matrix:
        found = [grams(text) for text in texts]
        starts = np.concatenate([[0], np.cumsum([len(buckets) for buckets, _ in found])])
        by_gram = csr_matrix(
            (np.concatenate([weights for _, weights in found]), np.concatenate([b for b, _ in found]), starts),
            shape=(len(texts), BUCKETS),
        )
        return hstack([by_gram, csr_matrix(self._embedder.encode(texts) * VECTOR_SCALE)]).tocsr()


def fit(samples: csr_matrix, flags: Flags, ordinary: csr_matrix) -> Model:
    """Return one model a category."""
    constants, by_feature = [], []
    for k in range(flags.shape[1]):
        known = np.flatnonzero(~np.isnan(flags[:, k]))
        truth = flags[known, k]
        # Rare categories count for more, but by the root of their rarity: fully balanced ones cry wolf.
        rarity = np.sqrt((truth == 0).sum() / max((truth == 1).sum(), 1))
        weights = np.concatenate([np.where(truth == 1, rarity, 1.0), np.full(ordinary.shape[0], ORDINARY_WEIGHT)])
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=2_000)
        model.fit(vstack([samples[known], ordinary]), np.concatenate([truth, np.zeros(ordinary.shape[0])]), weights)
        constants.append(model.intercept_[0])
        by_feature.append(model.coef_[0])
    return np.array(constants), np.array(by_feature)


def cross_validate(data: Data, features: Features) -> tuple[Scores, Scores]:
    """Return the log-odds of samples and of measured prompts, each from a model that saw nothing of its fold."""
    samples, teaching = features.of(data.samples), features.of(data.teaching)
    sample_scores = np.empty(data.flags.shape)
    ordinary_scores = np.empty((len(data.measuring), data.flags.shape[1]))
    for fold in range(FOLDS):
        seen = data.sample_folds != fold
        model = fit(samples[seen], data.flags[seen], teaching[data.teaching_folds != fold])
        for folds, texts, scores in (
            (data.sample_folds, data.samples, sample_scores),
            (data.measuring_folds, data.measuring, ordinary_scores),
        ):
            rows = np.flatnonzero(folds == fold)
            scores[rows] = _log_odds(features, model, [texts[row] for row in rows])
    return sample_scores, ordinary_scores


def operating_points(flags: Flags, samples: Scores, ordinary: Scores) -> Scores:
    """Return, for each category, the log-odds from which it rejects."""
    points = []
    for k in range(flags.shape[1]):
        known = ~np.isnan(flags[:, k])
        precision, recall, thresholds = precision_recall_curve(flags[known, k], samples[known, k])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        harmless = np.quantile(ordinary[:, k], 1 - REJECTED_SHARE_MAX)
        points.append(max(thresholds[np.argmax(f1[:-1])], harmless) + MARGIN)
    return np.array(points)


def figures(data: Data, samples: Scores, ordinary: Scores) -> Any:
    """Return what the held-out folds say, for the card."""
    flagged, rejected = np.zeros(samples.shape, bool), np.zeros(ordinary.shape, bool)
    for fold in range(FOLDS):
        mine, others = data.sample_folds == fold, data.sample_folds != fold
        points = operating_points(data.flags[others], samples[others], ordinary[data.measuring_folds != fold])
        flagged[mine] = samples[mine] >= points
        rejected[data.measuring_folds == fold] = ordinary[data.measuring_folds == fold] >= points
    by_category = {}
    for k, category in enumerate(LABELS.values()):
        known = ~np.isnan(data.flags[:, k])
        truth, said = data.flags[known, k], flagged[known, k]
        by_category[category] = {
            "samples": int(known.sum()),
            "positive": int(truth.sum()),
            "auc": round(float(roc_auc_score(truth, samples[known, k])), 3),
            "f1": round(float(f1_score(truth, said)), 3),
            "recall": round(float(recall_score(truth, said)), 3),
            "precision": round(float(precision_score(truth, said, zero_division=0.0)), 3),
        }
    offends = np.nan_to_num(data.flags).max(axis=1) == 1
    caught = flagged.max(axis=1)
    return {
        "held_out": {
            "auc_mean": round(float(np.mean([row["auc"] for row in by_category.values()])), 3),
            "offending_samples_rejected": round(float(np.mean(caught[offends])), 3),
            "other_samples_rejected": round(float(np.mean(caught[~offends])), 3),
            "ordinary_prompts": len(rejected),
            "ordinary_prompts_rejected": round(float(np.mean(rejected.max(axis=1))), 5),
        },
        "by_category": by_category,
    }


def _log_odds(features: Features, model: Model, texts: list[str]) -> Scores:
    """Score texts as the classifier will: each by its highest window."""
    pieces = [(owner, window) for owner, text in enumerate(texts) for window in windows(text)]
    constants, by_feature = model
    scores = features.of([window for _, window in pieces]) @ by_feature.T + constants
    highest = np.full((len(texts), len(constants)), -np.inf)
    np.maximum.at(highest, [owner for owner, _ in pieces], scores)
    return highest


def _dealt(flags: Flags) -> NDArray[np.int64]:
    """Deal the samples out to folds, rarest category first, so that each fold has its share of every category."""
    positives = np.nansum(flags, axis=0)
    rarest = np.where(flags == 1, positives, np.inf).min(axis=1)
    shuffled = np.random.default_rng(SEED).permutation(len(flags))
    folds = np.empty(len(flags), dtype=np.int64)
    folds[shuffled[np.argsort(rarest[shuffled], kind="stable")]] = np.arange(len(flags)) % FOLDS
    return folds


def _lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return [json.loads(line) for line in content.splitlines()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
