"""Fits the calibrated grader to GPT-4.1's verdicts and says how well it does on titles it has not seen.

python scripts/fit_calibrated.py FOLDER            fit on two thirds of the titles, write the trees, report on the other third
python scripts/fit_calibrated.py FOLDER --report   only report on the trees that are there
python scripts/fit_calibrated.py FOLDER --folds    ten folds over all titles

FOLDER holds result files released with the paper's code (Continual-Intelligence/SEAL), any depth below it. Fitting needs
scikit-learn: pip install --group fit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seal.grading.calibrated import Trees, from_json, path, probabilities, read
from seal.grading.features import NAMES, cut, features, stem
from seal.grading.grade import Row, correct
from seal.grading.lexical import LEXICAL
from seal.grading.values import words

try:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold
except ModuleNotFoundError:
    HistGradientBoostingClassifier = GroupKFold = None

TREES, DEPTH, RATE, LEAST, SMOOTH, TRIED = 200, 3, 0.06, 30, 5.0, 0.3
HELD_OUT = 30
"""Titles that nothing was fitted to or chosen by."""
RESAMPLES = 2000


class Verdict(NamedTuple):
    title: str
    row: Row
    correct: bool
    seen: int
    """How often these were the very question, target and answer; several verdicts of one answer are decided by most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--folds", action="store_true")
    arguments = parser.parse_args()
    if GroupKFold is None and not arguments.report:
        raise SystemExit("to fit, fit_calibrated.py needs scikit-learn: pip install --group fit, in the repository")
    verdicts, itself = read_verdicts(arguments.folder)
    held = held_out({one.title for one in verdicts})
    print(
        f"{sum(one.seen for one in verdicts)} verdicts on {len(verdicts)} different answers under"
        f" {len({one.title for one in verdicts})} titles; held out: {len(held)}"
    )
    if itself is not None:
        print("GPT-4.1 with itself, {} pairs of the same answer judged twice: agreement {:.3f}, kappa {:.3f}".format(*itself))
    if arguments.folds:
        report(verdicts, folded(verdicts))
        return
    if not arguments.report:
        content = fit([one for one in verdicts if one.title not in held])
        path().write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
        read.cache_clear()
        print(f"{path()}: {path().stat().st_size} bytes")
    unseen = [one for one in verdicts if one.title in held]
    report(unseen, np.array(probabilities([one.row for one in unseen])) >= 0.5)


def read_verdicts(folder: Path) -> tuple[list[Verdict], tuple[int, float, float] | None]:
    """Every different answer with GPT-4.1's verdict; and how often the judge agreed with itself on the same answer."""
    found: dict[tuple[str, Row], list[bool]] = {}
    for file in sorted(folder.rglob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        for article in content.get("articles", []) if isinstance(content, dict) else []:
            for completion in article["completions"]:
                for asked in completion["questions"]:
                    for when in ("baseline", "adapter"):
                        row = (asked["question"], asked["answer"], asked[f"{when}_answer"])
                        found.setdefault((article["title"], row), []).append(bool(asked[f"{when}_correct"]))
    if not found:
        raise SystemExit(f"{folder}: no result files with articles and verdicts there")
    verdicts = [Verdict(title, row, 2 * sum(all_) > len(all_), len(all_)) for (title, row), all_ in found.items()]
    return verdicts, _itself([all_ for (_, row), all_ in found.items() if len(all_) > 1 and row[2].strip()])


def _itself(judged: Sequence[list[bool]]) -> tuple[int, float, float] | None:
    """Over all pairs of verdicts on one answer, each answer counting once."""
    if not judged:
        return None
    agree = np.mean([(sum(v) ** 2 + (len(v) - sum(v)) ** 2 - len(v)) / (len(v) ** 2 - len(v)) for v in judged])
    right = np.mean([sum(v) / len(v) for v in judged])
    chance = right**2 + (1 - right) ** 2
    return len(judged), float(agree), float((agree - chance) / (1 - chance))


def held_out(titles: set[str]) -> set[str]:
    """The titles a hash puts first: the same whoever runs this."""
    return set(sorted(titles, key=lambda title: hashlib.blake2b(title.encode(), digest_size=8).hexdigest())[:HELD_OUT])


def fit(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The trees as plain tables. Answers without words teach nothing: they are wrong by rule."""
    said = [one for one in verdicts if one.row[2].strip()]
    levels = rarity(said)
    flat = {word: float(level) for level, together in levels.items() for word in together.split()}
    numbers = np.array([features(*one.row, flat) for one in said])
    labels = np.array([one.correct for one in said])
    model = HistGradientBoostingClassifier(
        max_depth=DEPTH,
        max_iter=TREES,
        learning_rate=RATE,
        min_samples_leaf=LEAST,
        l2_regularization=SMOOTH,
        max_features=TRIED,
        random_state=0,
    ).fit(numbers, labels)
    tables = [_full(tree[0].nodes) for tree in model._predictors]
    content = {
        "fitted to": "GPT-4.1's verdicts in the result files released with the paper's code",
        "numbers": list(NAMES),
        "start": round(float(model._baseline_prediction.item()), 6),
        "which": [which for which, _, _ in tables],
        "cuts": [cuts for _, cuts, _ in tables],
        "leaves": [leaves for _, _, leaves in tables],
        "rarity": levels,
    }
    ours = from_json(content).probability(numbers)
    if np.abs(ours - model.predict_proba(numbers)[:, 1]).max() > 1e-3:
        raise AssertionError("the tables do not say what the fitted trees say")
    return content


def rarity(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Stems by how rare they are among the answers, 0 (in all) to 1 (in one); those in less than eight are left out: 1."""
    counts: Counter[str] = Counter()
    for one in verdicts:
        counts.update({stem(word) for word in words(cut(one.row[2])[0])})
    levels: dict[str, list[str]] = {}
    for word, count in sorted(counts.items()):
        if count >= 8:
            levels.setdefault(f"{math.log(len(verdicts) / count) / math.log(len(verdicts)):.2f}", []).append(word)
    return {level: " ".join(levels[level]) for level in sorted(levels)}


def _full(nodes: Any) -> tuple[list[int], list[float], list[float]]:
    """A tree with every branch as long as the longest: a leaf that comes early stands under all that would follow it."""
    inner = 2**DEPTH - 1
    which, cuts, leaves = [0] * inner, [0.0] * inner, [0.0] * (inner + 1)

    def fill(place: int, at: int) -> None:
        node = nodes[at]
        if place >= inner:
            leaves[place - inner] = round(float(node["value"]), 5)
            return
        if not node["is_leaf"]:
            # a cut may be the very value of an answer: it is not rounded
            which[place], cuts[place] = int(node["feature_idx"]), float(node["num_threshold"])
        left, right = (at, at) if node["is_leaf"] else (int(node["left"]), int(node["right"]))
        fill(2 * place + 1, left)
        fill(2 * place + 2, right)

    fill(0, 0)
    return which, cuts, leaves


def folded(verdicts: Sequence[Verdict]) -> np.ndarray:
    """Verdicts of trees that have not seen the answer's title: ten folds over the titles."""
    found = np.zeros(len(verdicts), dtype=bool)
    titles = [one.title for one in verdicts]
    for known, unseen in GroupKFold(10, shuffle=True, random_state=0).split(titles, groups=titles):
        trees: Trees = from_json(fit([verdicts[at] for at in known]))
        found[unseen] = np.array(probabilities([verdicts[at].row for at in unseen], trees)) >= 0.5
    return found


def report(verdicts: Sequence[Verdict], ours: np.ndarray) -> None:
    """Agreement with GPT-4.1, with intervals over titles: once counting every verdict, once every different answer."""
    said: dict[str, np.ndarray] = {
        name: np.array([bool(correct(grader(*one.row).score)) for one in verdicts]) for name, grader in LEXICAL.items()
    }
    said["f1"] = np.array([LEXICAL["f1"](*one.row).metrics["f1"] >= 0.5 for one in verdicts])
    said["calibrated"] = np.asarray(ours)
    truth, titles = np.array([one.correct for one in verdicts]), [one.title for one in verdicts]
    for name, weights in (
        ("every verdict", np.array([one.seen for one in verdicts], dtype=float)),
        ("every different answer", np.ones(len(verdicts))),
    ):
        print(f"\n{name} ({int(weights.sum())}, {truth.dot(weights) / weights.sum():.3f} of them correct)")
        print("| grader | accuracy | kappa |\n|---|---|---|")
        for grader, verdict in said.items():
            tables = _by_title(titles, truth, verdict, weights)
            print(f"| {grader} | {_interval(tables, _accuracy)} | {_interval(tables, _kappa)} |")


def _by_title(titles: Sequence[str], truth: np.ndarray, said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(titles, 4): how much weight was both, only ours, only theirs, neither."""
    places = {title: at for at, title in enumerate(dict.fromkeys(titles))}
    tables = np.zeros((len(places), 4))
    np.add.at(tables, ([places[title] for title in titles], 2 * ~truth + ~said), weights)
    return tables


def _accuracy(sums: np.ndarray) -> np.ndarray:
    return np.asarray((sums[..., 0] + sums[..., 3]) / sums.sum(-1))


def _kappa(sums: np.ndarray) -> np.ndarray:
    total = sums.sum(-1)
    agree = (sums[..., 0] + sums[..., 3]) / total
    yes = (sums[..., 0] + sums[..., 1]) * (sums[..., 0] + sums[..., 2]) / total**2
    no = (sums[..., 2] + sums[..., 3]) * (sums[..., 1] + sums[..., 3]) / total**2
    return np.asarray((agree - yes - no) / (1 - yes - no))


def _interval(tables: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]) -> str:
    drawn = np.random.default_rng(0).multinomial(len(tables), np.full(len(tables), 1 / len(tables)), size=RESAMPLES)
    low, high = np.quantile(measure(drawn @ tables), [0.025, 0.975])
    return f"{float(measure(tables.sum(0))):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
