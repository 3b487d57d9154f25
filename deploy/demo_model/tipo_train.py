#!/usr/bin/env python3
"""Train the demo's TIPO, the language model that extends its prompts, and write its GGUF file.

    python3 tipo_train.py [--out DIR] [--time 2]

Writes demo-tipo.gguf and tipo-losses.csv into the output folder. One thread; the same seed, machine
and PyTorch give the same bytes. `--time` is a factor on the number of steps. Hyper-parameters stand
in config.py. Needs PyTorch 1.13 or later and numpy; a CPU with bfloat16 instructions helps.
"""

import argparse
import math
import os
import pathlib
import random
import time

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torch.nn.functional as F

import config
import tipo_corpus
import tipo_gguf
from journal import Journal
from tipo_model import Llama
from tipo_pieces import BEGIN, END, Vocabulary

POOL = 8  # batches that are drawn together, so that texts of one length meet in a batch


def learn_vocabulary():
    rng = random.Random(f"{config.SEED} vocabulary")
    texts = ("".join(tipo_corpus.sample(rng)) for _ in range(config.TIPO_VOCABULARY_SAMPLES))
    return Vocabulary(texts, config.TIPO_MERGES)


def encoded(vocabulary, rng):
    """(ids, where the answer begins) of one training text."""
    prompt, answer = tipo_corpus.sample(rng)
    ids = [BEGIN, *vocabulary.encode(prompt)]
    return ids + vocabulary.encode(answer, begin=False) + [END], len(ids)


def batches(vocabulary, rng, count):
    """(ids [b, n], places in it that predict a part of an answer [k]), `count` times."""
    size, pool = config.TIPO_BATCH, []
    for _ in range(count):
        if not pool:
            texts = sorted((encoded(vocabulary, rng) for _ in range(POOL * size)),
                           key=lambda text: len(text[0]))
            pool = [texts[i : i + size] for i in range(0, len(texts), size)]
            rng.shuffle(pool)
        texts = pool.pop()
        longest = max(len(ids) for ids, _ in texts)
        ids = torch.tensor([ids + [END] * (longest - len(ids)) for ids, _ in texts])
        places = [row * longest + i for row, (text, begin) in enumerate(texts)
                  for i in range(begin - 1, len(text) - 1)]
        yield ids, torch.tensor(places)


def loss_of(model, ids, places):
    """(mean cross-entropy of the answers' tokens, share of them that are the likeliest)."""
    hidden = model(ids).flatten(0, 1)[places]
    logits = model.lm_head(hidden).float()
    wanted = ids.flatten()[places + 1]
    return F.cross_entropy(logits, wanted), (logits.argmax(-1) == wanted).float().mean()


def train(model, vocabulary, steps, log):
    """AdamW from the peak rate down to nothing; leaves the averaged weights in the model."""
    parameters = list(model.parameters())
    average = [p.detach().clone() for p in parameters]
    adam = torch.optim.AdamW(parameters, lr=config.TIPO_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rng, start, sums = random.Random(f"{config.SEED} training"), time.time(), []
    for step, (ids, places) in enumerate(batches(vocabulary, rng, steps)):
        rate = config.TIPO_RATE * min(1, (step + 1) / 100) * \
            0.5 * (1 + math.cos(math.pi * step / steps))
        for group in adam.param_groups:
            group["lr"] = rate
        loss, right = loss_of(model, ids, places)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        with torch.no_grad():
            for mean, p in zip(average, parameters):
                mean.lerp_(p, 1 - min(config.TIPO_DECAY, (step + 1) / (step + 10)))
        sums.append((loss.item(), right.item()))
        if len(sums) == 100:
            log.write("tipo", step + 1, time.time() - start,
                      *(sum(column) / len(sums) for column in zip(*sums)))
            sums.clear()
    with torch.no_grad():
        for mean, p in zip(average, parameters):
            p.copy_(mean)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", default=str(pathlib.Path(__file__).parent / "files"),
                        help="folder of the finished files")
    parser.add_argument("--time", type=float, default=1.0, help="factor on the number of steps")
    options = parser.parse_args()
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(config.SEED)
    vocabulary = learn_vocabulary()
    model = Llama(len(vocabulary.tokens))
    losses = out / "tipo-losses.csv"
    losses.unlink(missing_ok=True)
    train(model, vocabulary, round(config.TIPO_STEPS * options.time), Journal(losses))
    tipo_gguf.write(out / "demo-tipo.gguf", "latentd demo TIPO", model, vocabulary)


if __name__ == "__main__":
    main()
