"""Fits the matcher's constants and says what they are worth on systems that they have not seen.

usage: fit.py DATA MATCHER [--folds] [--ablation [NAME...]] [--write]

  DATA     the folder of crm_mapping.json, drift_real.json and score.py
  MATCHER  the crate's binary: every signal is computed by it, and every cross-validated prediction is printed by it
  --folds     cross-validate: each fold holds whole systems back, all else (trees, lines, calibration) is fitted on the rest
  --ablation  the same with groups of signals, or stages behind them, left out: all of ABLATIONS, or those named
  --write     fit on everything and write ../data/model.json
"""
import argparse
import contextlib
import importlib.util
import json
import math
import multiprocessing
import os
import subprocess
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

FILES = {"crm": "crm_mapping.json", "drift": "drift_real.json"}
TASKS = {"crm": "onboard", "drift": "drift"}
FOLDS = {"crm": 9, "drift": 8}
INNER = 5
# What a pair of the other task weighs in the fit of a task.
OTHER = 0.3
RIVAL_WAYS = [1, 1, 1, -1, -1, 1, 1, 0, 0, -1, 1, 1, 1, 1, -1, -1, 1, 1, 1, 1]
# Answers of a neighbourhood that a point of a calibration curve stands for, and how many standard errors it stays below.
NEIGHBOURS = 60
CAUTION = 1.0
# What is doubtful is said in these steps, rounded down: with some hundred answers more would be pretence.
LADDER = [0.05, 0.1, 0.2, 0.5, 0.81, 0.87]
# What is never called as good as certain ends here.
DOUBTFUL_MAX = 0.88
AGREED_MAX = 0.99
# What is left out together, by the name that it is asked for.
VALUES = ("formats", "overlap", "distributions")
STAGES = ("rivals", "agreement", "calibration")
ABLATIONS = {
    "values": VALUES,
    **{group: (group,) for group in (*VALUES, "types", "names", "words", "embeddings")},
    "values+embeddings": (*VALUES, "embeddings"),
    "names+words": ("names", "words"),
    **{stage: (stage,) for stage in STAGES},
}


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
        systems = np.array([family(self.gold[i]["system"]) for i in ids])
        agreed = np.array([len(l) > 3 and l[3] for l in lines])
        return dict(ids=np.array(ids), x=x, y=y, w=w, systems=systems, agreed=agreed)

    def is_right(self, question, target):
        gold = self.gold[question]
        return int(target == gold["gold"] or target in gold["acc"])

    def folds(self, kind, count):
        """Families of systems in groups of like size."""
        sizes = {}
        for q in self.questions[kind]:
            sizes[family(q["system"])] = sizes.get(family(q["system"]), 0) + 1
        groups = [(set(), 0) for _ in range(count)]
        for name, size in sorted(sizes.items(), key=lambda f: (-f[1], f[0])):
            at = min(range(count), key=lambda i: (groups[i][1], i))
            groups[at] = (groups[at][0] | {name}, groups[at][1] + size)
        return [g for g, _ in groups if g]


def family(system):
    """A maker's systems are one, whichever file they stand in; spree and solidus share a history."""
    word = system.lower().split()[0]
    return {"solidus": "spree"}.get(word, word)


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
        self.data, self.without = data, without
        self.ignored = [at for at, (_, group, _) in enumerate(data.names) if group in without]
        self.ways = [way for _, _, way in data.names]

    def pair(self, kind, held):
        x, y, w = [], [], []
        for other in FILES:
            p = self.data.pairs[other]
            use = ~np.isin(p["systems"], list(held))
            x.append(p["x"][use]); y.append(p["y"][use]); w.append(p["w"][use] * (1.0 if other == kind else OTHER))
        x, y, w = np.concatenate(x), np.concatenate(y), np.concatenate(w)
        # As the crate has it: what is ignored is the same for all.
        x[:, self.ignored] = [1.0 if self.ways[at] > 0 else 0.0 for at in self.ignored]
        scorer = boost(x, y, w, self.ways, 120, 8, 0.06, 20, 5.0)
        scorer["line"] = line(x, y, w, 0.1)
        return scorer

    @contextlib.contextmanager
    def file(self, **model):
        model = dict(rivals=PAIR_ALONE, agreed=FLAT, doubtful=FLAT, ignored=self.ignored) | model
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump({task: model for task in TASKS.values()}, f)
            f.flush()
            yield f.name

    def rivals(self, rows, use):
        if "rivals" in self.without:
            return PAIR_ALONE
        x, y, w = rows["x"][use], rows["y"][use], rows["w"][use]
        scorer = boost(x, y, w, RIVAL_WAYS, 60, 4, 0.06, 25, 10.0)
        scorer["line"] = line(x, y, w, 0.03)
        return scorer

    def model(self, kind, held):
        """Pair scorer, rival scorer and calibration, none of which has seen the systems that are held back."""
        inner = [g - held for g in self.data.folds(kind, INNER if held else FOLDS[kind]) if g - held]
        # Each system's pairs as they look to a scorer that has not seen it; the crate computes what they look like.
        parts = []
        for group in inner:
            with self.file(pair=self.pair(kind, held | group)) as file:
                rows = self.data.rows("rivals", kind, self.data.path(kind), file)
            use = np.isin(rows["systems"], list(group))
            parts.append({k: v[use] for k, v in rows.items()})
        seen = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        scores = np.zeros(len(seen["y"]))
        for group in inner:
            at = np.isin(seen["systems"], list(group))
            scores[at] = value(self.rivals(seen, ~at), seen["x"][at])
        best = tops(seen["ids"], scores)
        curves = self.curves(scores[best], seen["y"][best], seen["agreed"][best])
        return dict(pair=self.pair(kind, held), rivals=self.rivals(seen, np.ones(len(seen["y"]), bool)), **curves)

    def curves(self, scores, right, agreed):
        """Log-odds to probability, for what agrees and for what does not."""
        if "agreement" in self.without:
            curve = calibrate(scores, right, AGREED_MAX)
            return dict(agreed=curve, doubtful=curve)
        if "calibration" in self.without:
            return dict(agreed=logistic(AGREED_MAX), doubtful=logistic(DOUBTFUL_MAX))
        return dict(agreed=calibrate(scores[agreed], right[agreed], AGREED_MAX),
                    doubtful=calibrate(scores[~agreed], right[~agreed], DOUBTFUL_MAX))

    def predict(self, kind, model):
        with self.file(**model) as file:
            found = json.loads(self.data.run(kind, self.data.path(kind), file))
            operations = json.loads(self.data.run("drift-ops", self.data.path("drift"), file)) if kind == "drift" else {}
        return found, operations


FLAT = [[-9.0, 0.0], [9.0, 1.0]]
# A rival score that is the pair score.
PAIR_ALONE = dict(line=dict(intercept=0.0, weights=[1.0] + [0.0] * (len(RIVAL_WAYS) - 1)))


def logistic(most):
    """Log-odds taken at their word."""
    return [[x / 8, min(most, 1 / (1 + math.exp(-x / 8)))] for x in range(-80, 81)]


def tops(ids, scores):
    """Where the best pair of each question stands."""
    best = {}
    for at, question in enumerate(ids):
        if question not in best or scores[at] > scores[best[question]]:
            best[question] = at
    return np.array(list(best.values()))


def calibrate(score, right, most):
    """A rising staircase with enough answers on each step, each a little lower than what was seen; not quite level, so
    that the order of answers stays."""
    order = np.argsort(score, kind="stable")
    score, right = score[order], right[order].astype(float)
    steps = []
    for x, y in zip(score, right):
        steps.append([1, y, x, x])
        while len(steps) > 1 and (steps[-2][1] / steps[-2][0] >= steps[-1][1] / steps[-1][0]):
            n, k, low, high = steps.pop()
            steps[-1] = [steps[-1][0] + n, steps[-1][1] + k, steps[-1][2], high]
    while len(steps) > 1 and min(s[0] for s in steps) < NEIGHBOURS:
        at = min(range(len(steps)), key=lambda i: steps[i][0])
        near = at - 1 if at == len(steps) - 1 or (at > 0 and steps[at - 1][0] <= steps[at + 1][0]) else at
        a, b = steps[near], steps.pop(near + 1)
        steps[near] = [a[0] + b[0], a[1] + b[1], a[2], b[3]]
    points, last = [], 0.0
    for n, k, low, high in steps:
        share = (k + 0.5) / (n + 1)
        level = share - CAUTION * math.sqrt(share * (1 - share) / n)
        if most == DOUBTFUL_MAX:
            level = max(rung for rung in LADDER if rung <= max(level, LADDER[0]))
        level = max(last, min(level, most - 0.004))
        if points:
            # Between two steps the lower one holds.
            points.append([round(float(low), 4), points[-1][1]])
        points += [[round(float(low), 4), round(level, 5)], [round(float(high), 4), round(level + 0.004, 5)]]
        last = level + 0.004
    return points


DATA = None


def fold(kind, held, without):
    fit = Fit(DATA, without)
    found, operations = fit.predict(kind, fit.model(kind, held))
    return {k: v for k, v in found.items() if family(DATA.gold[k]["system"]) in held}, operations


def cross_validate(without=(), kinds=tuple(FILES)):
    predictions, operations = {k: {} for k in FILES}, {}
    jobs = [(kind, held, without) for kind in kinds for held in DATA.folds(kind, FOLDS[kind])]
    with multiprocessing.Pool(2) as pool:
        results = pool.starmap(fold, jobs, chunksize=1)
    systems = {c["case_id"]: family(c["system"]) for c in json.load(open(DATA.path("drift")))["cases"]}
    asked = {family(q["system"]) for q in DATA.questions["drift"]}
    for (kind, held, _), (found, told) in zip(jobs, results):
        predictions[kind].update(found)
        # A system that no question is about is in no fold, and in no fit.
        operations.update({k: v for k, v in told.items() if systems[k] in held or systems[k] not in asked})
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
        print("  bins (n, said, right): " + "  ".join(f"{b[0]}:{b[1]/b[0]:.2f}/{b[2]/b[0]:.2f}" for b in table if b[0]) + f"  most over-confident {over:+.3f}", flush=True)
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
    for name in ("folds", "write"):
        ap.add_argument("--" + name, action="store_true")
    ap.add_argument("--ablation", nargs="*", choices=ABLATIONS, metavar="NAME", help=", ".join(ABLATIONS))
    ap.add_argument("--keep", help="a folder for the cross-validated predictions")
    args = ap.parse_args()
    global DATA
    data = DATA = Data(args.data, args.matcher)
    if args.folds:
        predictions, operations = cross_validate()
        report(data, predictions, operations)
        if args.keep:
            for kind in FILES:
                Path(args.keep, kind + ".json").write_text(json.dumps(predictions[kind]))
            Path(args.keep, "drift-ops.json").write_text(json.dumps(operations))
    if args.ablation is not None:
        for name in args.ablation or ABLATIONS:
            predictions, _ = cross_validate(ABLATIONS[name])
            print("\n== without", name)
            report(data, predictions)
    if args.write:
        fit = Fit(data)
        models = {TASKS[kind]: fit.model(kind, set()) for kind in FILES}
        (Path(__file__).parent.parent / "data" / "model.json").write_text(json.dumps(models, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
