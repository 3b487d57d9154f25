#!/usr/bin/env python3
"""Draw the pictures, train the demo model and its adapters, and write their files.

    python3 train.py [--work DIR] [--out DIR] [--time 8]
                     [--stages vae,unet,adapters,decoder] [--from FILE [--phase N]]

Every stage leaves its result in the work folder and is skipped when that is there already, so an
interrupted training goes on with the stage that it was in (the denoiser with its phase); adapters
are skipped when their files are in the output folder. `--from` starts in an empty work folder with
the networks of a finished file, and with the given phase of the denoiser, e.g. `--from
files/demo.safetensors --out new --stages unet,adapters` for another round of the last phase and new
adapters. The losses are added to losses.csv in the work folder. Hyper-parameters stand in
config.py. Needs PyTorch 1.13 or later and numpy; a C compiler makes it several times faster on a
CPU.
"""

import argparse
import os
import pathlib
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of one thread each, see fit.py

import torch

import checkpoint
import config
import native
import train_adapters
import train_decoder
import train_unet
import train_vae
import vocabulary
from journal import Journal
from text import TextEncoder
from unet import UNet
from vae import VAE

STAGES = ("vae", "unet", "adapters", "decoder")


class Work:
    """The networks and where their states lie."""

    def __init__(self, folder, out):
        self.folder, self.out = pathlib.Path(folder), pathlib.Path(out)
        self.folder.mkdir(parents=True, exist_ok=True)
        for part in ("adapters", "embeddings"):
            (self.out / part).mkdir(parents=True, exist_ok=True)
        self.log = Journal(self.folder / "losses.csv")
        torch.manual_seed(config.SEED)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.vae, self.text, self.unet = (network.to(device) for network in (
            VAE(), TextEncoder(vocabulary.size()), UNet()))

    def path(self, name):
        return self.folder / f"{name}.pt"

    def load(self):
        """Take what earlier stages left."""
        for name in ("vae", "decoder"):
            if self.path(name).exists():
                self.vae.load_state_dict(torch.load(self.path(name), map_location="cpu"))
        if self.path("unet").exists():
            state = torch.load(self.path("unet"), map_location="cpu")
            self.text.load_state_dict(state["text"])
            self.unet.load_state_dict(state["unet"])

    def begin_from(self, file, phase):
        """Put the networks of a finished model where the stages look for theirs."""
        states = checkpoint.read_model(file)
        torch.save(states.pop("vae"), self.path("vae"))
        torch.save(states, self.path("unet"))
        (self.folder / "phases_done").write_text(str(phase))

    def save_unet(self):
        draft = self.folder / "unet.tmp"
        torch.save({"text": self.text.state_dict(), "unet": self.unet.state_dict()}, draft)
        draft.replace(self.path("unet"))
        self.write()

    def write(self):
        checkpoint.write_model(self.out / "demo.safetensors", self.vae, self.text, self.unet)
        (self.out / "merges.txt").write_text(vocabulary.merges_text())


def freeze(network):
    for p in network.parameters():
        p.requires_grad = False


def stage_vae(work):
    if work.path("vae").exists():
        return
    images = train_vae.pictures(config.VAE_PICTURES)
    torch.set_num_threads(os.cpu_count() or 1)
    train_vae.train(work.vae, images, work.log, work.path("vae_draft"))
    torch.save(train_vae.fold_scale(work.vae, images).state_dict(), work.path("vae"))
    torch.set_num_threads(1)


def stage_unet(work):
    freeze(work.vae)
    done = work.folder / "phases_done"
    first = int(done.read_text()) if done.exists() else 0
    for phase in range(first, len(config.PHASES)):
        train_unet.train(work.vae, work.text, work.unet, work.log, work.folder, work.save_unet,
                         phase)
        done.write_text(str(phase + 1))


def stage_adapters(work):
    freeze(work.vae)
    freeze(work.text)
    freeze(work.unet)
    common = (work.vae, work.text, work.unet, work.log, work.folder, work.out)
    for name in config.STYLES_TRAINED:
        if not (work.out / "adapters" / f"{name}.safetensors").exists():
            train_adapters.train_style(*common, name)
    if not (work.out / "embeddings" / "demo-negative.safetensors").exists():
        train_adapters.train_negative(*common)
    if not (work.out / "adapters" / "demo-fast.safetensors").exists():
        sets = train_unet.Sets(work.vae, config.FEW_SETS, work.folder)
        train_adapters.train_few_steps(work.text, work.unet, work.log, work.out, sets)


def stage_decoder(work):
    if not work.path("decoder").exists():
        train_decoder.train_decoder(work.vae, work.log, work.folder)
        torch.save(work.vae.state_dict(), work.path("decoder"))


def main():
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--work", default="demo_model_work", help="folder of checkpoints")
    parser.add_argument("--out", default=str(here / "files"), help="folder of the finished files")
    parser.add_argument("--stages", default=",".join(STAGES), help="which to run, in this order")
    parser.add_argument("--time", type=float, default=1.0, help="factor on all durations")
    parser.add_argument("--from", dest="start", help="finished model to go on from")
    parser.add_argument("--phase", type=int, default=len(config.PHASES) - 1,
                        help="with --from: the first phase to run, counted from 0")
    options = parser.parse_args()
    config.TIME = options.time
    native.library()
    torch.set_num_threads(1)
    work = Work(options.work, options.out)
    if options.start:
        work.begin_from(options.start, options.phase)
    for stage in options.stages.split(","):
        work.load()
        {"vae": stage_vae, "unet": stage_unet, "adapters": stage_adapters,
         "decoder": stage_decoder}[stage](work)
        work.write()
    shutil.copy(work.log.path, work.out / "losses.csv")


if __name__ == "__main__":
    main()
