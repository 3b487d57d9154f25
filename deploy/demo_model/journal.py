"""The log of the losses: one CSV line per report, also printed."""

import pathlib


class Journal:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        if not self.path.exists():
            self.path.write_text("phase,step,seconds,loss,detail1,detail2\n")

    def write(self, phase, step, seconds, *values):
        line = ",".join([phase, str(step), f"{seconds:.0f}", *(f"{v:.5f}" for v in values)])
        with self.path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)
