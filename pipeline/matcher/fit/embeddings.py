"""Distils the word vectors in ../data from a sentence model: one vector a word, reduced, eight bits a number.

usage: embeddings.py MODEL.onnx TOKENIZER.json          (see ../data/README.md for where they come from)

The vocabulary is the most frequent English words of the `wordfreq` package and every word of ../data/lexicon.txt, so it is
the same whatever data the matcher is fitted on.
"""
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer
from wordfreq import top_n_list, zipf_frequency

DATA = Path(__file__).parent.parent / "data"
WORDS = 12_000
DIMENSIONS = 64


def vocabulary():
    common = [w for w in top_n_list("en", 3 * WORDS) if re.fullmatch(r"[a-z]{2,}", w)][:WORDS]
    lines = (DATA / "lexicon.txt").read_text().splitlines()
    ours = re.findall(r"[a-z]{2,}", " ".join(line for line in lines if not line.startswith("#")))
    return sorted(set(common) | set(ours))


def embed(words, model, tokenizer):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    tokens = Tokenizer.from_file(tokenizer)
    tokens.no_truncation()
    tokens.enable_padding()
    rows = []
    for start in range(0, len(words), 256):
        batch = tokens.encode_batch(words[start : start + 256])
        ids = np.array([b.ids for b in batch], dtype=np.int64)
        mask = np.array([b.attention_mask for b in batch], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {k: v for k, v in feed.items() if k in names})[0]
        weight = mask[:, :, None]
        rows.append((hidden * weight).sum(1) / weight.sum(1))
    return np.concatenate(rows)


def reduce(vectors):
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors - vectors.mean(0)
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    small = vectors @ axes[:DIMENSIONS].T
    return small / np.linalg.norm(small, axis=1, keepdims=True)


def main():
    words = vocabulary()
    small = reduce(embed(words, *sys.argv[1:3]))
    peak = np.abs(small).max()
    (DATA / "embeddings.i8").write_bytes(np.round(small / peak * 127).astype(np.int8).tobytes())
    frequency = [f"{w} {round(zipf_frequency(w, 'en') * 100)}" for w in words]
    (DATA / "vocabulary.txt").write_text("\n".join(frequency) + "\n")
    print(len(words), "words,", DIMENSIONS, "dimensions, scale", peak / 127)


if __name__ == "__main__":
    main()
