"""Fits the matcher's constants and says what they are worth on systems that they have not seen.

usage: fit.py DATA MATCHER [--folds] [--ablation] [--write]

  DATA     the folder of crm_mapping.json, drift_real.json and score.py
  MATCHER  the crate's binary: every signal is computed by it, and every cross-validated prediction is printed by it
  --folds     cross-validate: each fold holds whole systems back, all else (trees, lines, calibration) is fitted on the rest
  --ablation  the same with groups of signals left out
  --write     fit on everything and write ../data/model.json
"""
import argparse
import contextlib
import importlib.util
import io
import json
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

FILES = {"crm": "crm_mapping.json", "drift": "drift_real.json"}
TASKS = {"crm": "onboard", "drift": "drift"}
FOLDS = {"crm": 9, "drift": 8}
INNER = 5
# What a pair of the other task weighs in the fit of a task.
OTHER = 0.3
# Rivals' signals that come from groups of pair signals, for the ablation.
RIVALS = ["log_odds", "lead_in_row", "lead_in_column", "rank_in_row", "rank_in_column", "assigned", "best_of_both", "rows",
          "columns", "column_is_taken", "same_path", "words_f", "words_sure", "meaning", "against", "side_source",
          "compatible_type", "same_native_type", "formats", "nulls"]
RIVAL_WAYS = [1, 1, 1, -1, -1, 1, 1, 0, 0, -1, 1, 1, 1, 1, -1, -1, 1, 1, 1, 1]


class Data:
    """Questions with their gold answers, and the signals of their pairs."""

    def __init__(self, folder, binary):
        self.folder, self.binary = Path(folder), binary
        spec = importlib.util.spec_from_file_location("score", self.folder / "score.py")
        self.score = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.score)
        self.names = json.loads(self.run("names"))
        self.questions = {k: self.score.load(k)[1] for k in FILES}
        self.gold = {q["id"]: q for k in FILES for q in self.questions[k]}
        self.pairs = {k: self.rows("signals", k, self.path(k)) for k in FILES}

    def path(self, kind):
        return str(self.folder / FILES[kind])

    def run(self, *args):
        return subprocess.run([self.binary, *args], check=True, capture_output=True, text=True).stdout

    def rows(self, *args):
        lines = [json.loads(line) for line in self.run(*args).splitlines()]
        ids, targets = [l[0] for l in lines], [l[1] for l in lines]
        x = np.array([l[2] for l in lines], dtype=np.float32)
        y = np.array([self.is_right(i, t) for i, t in zip(ids, targets)], dtype=int)
        # A pair that may be accepted but need not be teaches less.
        w = np.array([0.5 if y[n] and None in self.gold[i]["acc"] else 1.0 for n, i in enumerate(ids)])
        systems = np.array([self.gold[i]["system"] for i in ids])
        return dict(ids=ids, targets=targets, x=x, y=y, w=w, systems=systems)

    def is_right(self, question, target):
        gold = self.gold[question]
        return int(target == gold["gold"] or target in gold["acc"])

    def folds(self, kind, count):
        """Systems in groups of like size; a vendor's versions are one system."""
        sizes = {}
        for q in self.questions[kind]:
            sizes[q["system"]] = sizes.get(q["system"], 0) + 1
        families = {}
        for system, size in sizes.items():
            families.setdefault(family(system), []).append((system, size))
        groups = [([], 0) for _ in range(count)]
        for _, members in sorted(families.items(), key=lambda f: (-sum(s for _, s in f[1]), f[0])):
            at = min(range(count), key=lambda i: (groups[i][1], i))
            groups[at] = (groups[at][0] + [s for s, _ in members], groups[at][1] + sum(s for _, s in members))
        return [set(g) for g, _ in groups if g]


def family(system):
    # spree and solidus share a history, as do the two Django CRMs; `contact name split` and the like stand alone.
    word = system.lower().split()[0]
    return {"solidus": "spree", "django-crm": "django-crm"}.get(word, word)


def boost(x, y, w, ways, trees, leaves, rate, least, l2):
    model = HistGradientBoostingClassifier(max_iter=trees, max_leaf_nodes=leaves, learning_rate=rate, min_samples_leaf=least,
                                           l2_regularization=l2, monotonic_cst=ways, early_stopping=False, random_state=0)
    model.fit(x, y, sample_weight=w)
    out = []
    for (predictor,) in model._predictors:
        nodes = predictor.nodes
        out.append([[-1, round(float(n["value"]), 5), 0, 0] if n["is_leaf"] else
                    [int(n["feature_idx"]), round(float(n["num_threshold"]), 6), int(n["left"]), int(n["right"])] for n in nodes])
    return dict(base=float(np.ravel(model._baseline_prediction)[0]), trees=out)


def line(x, y, w, c):
    scale = x.std(0) + 1e-6
    mean = x.mean(0)
    model = LogisticRegression(C=c, max_iter=5000).fit((x - mean) / scale, y, sample_weight=w)
    weights = model.coef_[0] / scale
    return dict(intercept=float(model.intercept_[0] - weights @ mean), weights=[round(float(v), 5) for v in weights])


def value(scorer, x):
    """The same sum as in the crate; used for inner folds alone."""
    total, parts = np.zeros(len(x)), 0
    if scorer.get("trees"):
        parts += 1
        total += scorer["base"]
        for tree in scorer["trees"]:
            at = np.zeros(len(x), dtype=int)
            nodes = np.array(tree)
            while True:
                f = nodes[at, 0].astype(int)
                inner = f >= 0
                if not inner.any():
                    break
                low = x[np.arange(len(x)), np.maximum(f, 0)] <= nodes[at, 1]
                at = np.where(inner, np.where(low, nodes[at, 2], nodes[at, 3]).astype(int), at)
            total += nodes[at, 1]
    if scorer.get("line"):
        parts += 1
        total += scorer["line"]["intercept"] + x @ np.array(scorer["line"]["weights"])
    return total / max(parts, 1)


class Fit:
    def __init__(self, data, without=()):
        self.data = data
        keep = [group not in without for _, group, _ in data.names]
        self.pair_mask = np.array(keep, dtype=np.float32)
        off = {name for (name, group, _) in data.names if group in without}
        self.rival_mask = np.array([r not in off for r in RIVALS], dtype=np.float32)
        self.pair_ways = [way for _, _, way in data.names]

    def pair(self, kind, held):
        x, y, w = [], [], []
        for other in FILES:
            p = self.data.pairs[other]
            use = ~np.isin(p["systems"], list(held))
            x.append(p["x"][use]); y.append(p["y"][use]); w.append(p["w"][use] * (1.0 if other == kind else OTHER))
        x, y, w = np.concatenate(x) * self.pair_mask, np.concatenate(y), np.concatenate(w)
        scorer = boost(x, y, w, self.pair_ways, 120, 8, 0.06, 20, 5.0)
        scorer["line"] = line(x, y, w, 0.1)
        return scorer

    def rival_rows(self, kind, pair):
        """Signals among rivals, under a pair scorer: computed by the crate."""
        plain = dict(pair=pair, rivals=dict(line=dict(intercept=0.0, weights=[1.0])), calibration=[[-9.0, 0.0], [9.0, 1.0]])
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump(dict(onboard=plain, drift=plain), f)
            f.flush()
            return self.data.rows("rivals", kind, self.data.path(kind), f.name)

    def rivals(self, rows, use):
        x, y, w = rows["x"][use] * self.rival_mask, rows["y"][use], rows["w"][use]
        scorer = boost(x, y, w, RIVAL_WAYS, 60, 4, 0.06, 25, 10.0)
        scorer["line"] = line(x, y, w, 0.03)
        return scorer

    def model(self, kind, held):
        """Pair scorer, rival scorer and calibration, none of which has seen the systems that are held back."""
        systems = sorted({q["system"] for q in self.data.questions[kind]} - held)
        inner = [g - held for g in self.data.folds(kind, max(INNER, FOLDS[kind]))]
        inner = [g for g in inner if g]
        # Each system's pairs as they look to a scorer that has not seen it.
        parts = []
        for group in inner:
            rows = self.rival_rows(kind, self.pair(kind, held | group))
            use = np.isin(rows["systems"], list(group))
            parts.append({k: (v[use] if isinstance(v, np.ndarray) else [v[i] for i in np.flatnonzero(use)]) for k, v in rows.items()})
        seen = {k: (np.concatenate([p[k] for p in parts]) if isinstance(parts[0][k], np.ndarray) else sum((p[k] for p in parts), [])) for k in parts[0]}
        scores = np.zeros(len(seen["y"]))
        for group in inner:
            at = np.isin(seen["systems"], list(group))
            scores[at] = value(self.rivals(seen, ~at), seen["x"][at] * self.rival_mask)
        calibration = calibrate(*tops(seen, scores))
        out = dict(pair=self.pair(kind, held), rivals=self.rivals(seen, np.ones(len(seen["y"]), bool)), calibration=calibration)
        # The crate computes all signals; those that are left out must not count.
        return self.mask(out)

    def mask(self, model):
        for scorer, mask in ((model["pair"], self.pair_mask), (model["rivals"], self.rival_mask)):
            scorer["line"]["weights"] = [w * float(m) for w, m in zip(scorer["line"]["weights"], mask)]
            for tree in scorer["trees"]:
                for node in tree:
                    assert node[0] < 0 or mask[node[0]], "a tree asks for a signal that is constant"
        return model

    def predict(self, kind, model, held):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump(dict(onboard=model, drift=model), f)
            f.flush()
            found = json.loads(self.data.run(kind, self.data.path(kind), f.name))
            ops = json.loads(self.data.run("drift-ops", self.data.path("drift"), f.name)) if kind == "drift" else {}
        return {k: v for k, v in found.items() if self.data.gold[k]["system"] in held}, ops


def tops(rows, scores):
    """The best pair of each question: its score, and whether it is right."""
    best = {}
    for at, question in enumerate(rows["ids"]):
        if question not in best or scores[at] > scores[best[question]]:
            best[question] = at
    at = np.array(list(best.values()))
    return scores[at], rows["y"][at]


# Doubt that is kept: as if so many wrong answers had been seen in each neighbourhood of the calibration.
DOUBT = 0.5


def calibrate(score, right):
    """A rising line through neighbourhoods of scores; each point is pulled down a little."""
    order = np.argsort(score, kind="stable")
    score, right = score[order], right[order].astype(float)
    model = LogisticRegression(C=10.0).fit(score[:, None], right)
    slope, intercept = float(model.coef_[0][0]), float(model.intercept_[0])
    grid = np.linspace(-6.0, 8.0, 57)
    points = []
    for x in grid:
        # A share of what is near, beside what a logistic curve says of it.
        near = np.exp(-0.5 * ((score - x) / 0.6) ** 2)
        curve = 1 / (1 + math.exp(-(slope * x + intercept)))
        prior = 8.0
        points.append((near @ right + prior * curve) / (near.sum() + prior + DOUBT))
    points = np.maximum.accumulate(points)
    return [[round(float(x), 3), round(float(min(y, 0.995)), 5)] for x, y in zip(grid, points)]


def cross_validate(data, without=(), quiet=False):
    fit = Fit(data, without)
    predictions, operations = {}, {}
    for kind in FILES:
        predictions[kind] = {}
        for held in data.folds(kind, FOLDS[kind]):
            model = fit.model(kind, held)
            found, ops = fit.predict(kind, model, held)
            predictions[kind].update(found)
            if ops:
                systems = {c["case_id"]: c["system"] for c in json.load(open(data.path("drift")))["cases"]}
                operations.update({k: v for k, v in ops.items() if systems[k] in held or not any(systems[k] in g for g in data.folds(kind, FOLDS[kind]))})
    return predictions, operations


def report(data, predictions, operations=None):
    n = wrong = 0
    for kind in FILES:
        result = data.score.evaluate(data.questions[kind], predictions[kind])
        print(data.score.fmt(kind, result))
        n, wrong = n + result["a90_n"], wrong + result["a90_wrong"]
        table = [[0, 0.0, 0] for _ in range(15)]
        for q in data.questions[kind]:
            top = (predictions[kind].get(q["id"]) or [{}])[0]
            if top.get("field") is not None:
                b = table[min(14, int(top["confidence"] * 15))]
                b[0] += 1; b[1] += top["confidence"]; b[2] += top["field"] in {q["gold"], *q["acc"]} - {None}
        over = max((b[1] - b[2]) / b[0] for b in table if b[0])
        print("  bins (n, said, right): " + "  ".join(f"{b[0]}:{b[1]/b[0]:.2f}/{b[2]/b[0]:.2f}" for b in table if b[0]) + f"  most over-confident {over:+.3f}")
        by = data.score.evaluate
        for q in data.questions[kind]:
            top = (predictions[kind].get(q["id"]) or [{}])[0]
            if top.get("confidence", 0) >= 0.9 and not data.is_right(q["id"], top["field"]):
                print("  wrong at 0.90:", q["system"], q["id"], top, "gold", q["gold"])
    print(f"pooled at 0.90: {n} accepted, {wrong} wrong, precision {(n - wrong) / max(n, 1):.4f}, Wilson lower bound {data.score.wilson(n - wrong, n):.4f}")
    if operations:
        data.score.ops_eval(data.score.load("drift")[0], operations)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("data"); ap.add_argument("matcher")
    for name in ("folds", "ablation", "write"):
        ap.add_argument("--" + name, action="store_true")
    ap.add_argument("--keep", help="a folder for the cross-validated predictions")
    args = ap.parse_args()
    data = Data(args.data, args.matcher)
    if args.folds:
        predictions, operations = cross_validate(data)
        report(data, predictions, operations)
        if args.keep:
            for kind in FILES:
                Path(args.keep, kind + ".json").write_text(json.dumps(predictions[kind]))
            Path(args.keep, "drift-ops.json").write_text(json.dumps(operations))
    if args.ablation:
        groups = ("names", "words", "embeddings", "types", "values")
        sets = [("values",), ("embeddings",), ("types",), ("words",), ("names",), ("values", "embeddings"), ("types", "values", "embeddings")]
        for without in [()] + sets:
            predictions, _ = cross_validate(data, without)
            print("\n==", "with", ", ".join(g for g in groups if g not in without))
            report(data, predictions)
    if args.write:
        fit = Fit(data)
        models = {TASKS[kind]: fit.model(kind, set()) for kind in FILES}
        (Path(__file__).parent.parent / "data" / "model.json").write_text(json.dumps(models, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
