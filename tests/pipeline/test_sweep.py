"""Proves that `generate --sweep` paints every cell as the single request would, puts them all on one
labelled sheet, and refuses what cannot be a sweep before anything is painted."""

import pytest


def test_cells_equal_single_pictures_and_stand_on_the_sheet(generate, tmp_path, png):
    generate("--prompt", "cat", "--seed", "5", "--sweep", "steps=2,3", "--sweep",
             "sampler=euler,heun,dpmpp_2m", "-o", str(tmp_path / "grid.png"))
    cells = [png((tmp_path / f"grid-{i}.png").read_bytes()) for i in range(6)]
    assert not (tmp_path / "grid-6.png").exists()
    for index, (sampler, steps) in enumerate((sampler, steps)
                                             for sampler in ("euler", "heun", "dpmpp_2m")
                                             for steps in ("2", "3")):
        if index in (0, 5):
            generate("--prompt", "cat", "--seed", "5", "--steps", steps, "--sampler", sampler)
            assert png((tmp_path / "out.png").read_bytes()).raw == cells[index].raw
    sheet = png((tmp_path / "grid.png").read_bytes())
    assert sheet.width > 2 * 64 and sheet.height > 3 * 64
    rows = [sheet.raw[y * (sheet.width * 3 + 1):(y + 1) * (sheet.width * 3 + 1)]
            for y in range(sheet.height)]
    assert len(set(rows)) > 100, "a sheet of pictures is not flat"


def test_a_seed_left_to_chance_is_the_same_in_every_cell(generate, tmp_path, png):
    done = generate("--prompt", "cat", "--sweep", "cfg_scale=4,4", "-o", str(tmp_path / "g.png"))
    assert (tmp_path / "g-0.png").read_bytes() == (tmp_path / "g-1.png").read_bytes()
    assert "the sheet of 2 pictures" in done.stderr


@pytest.mark.parametrize("flags, words", [
    (("--sweep", "steps"), "FIELD=VALUE,VALUE"),
    (("--sweep", "steps=2,3", "--sweep", "steps=4"), "on two axes"),
    (("--sweep", "seed=" + ",".join(map(str, range(65)))), "64 cells"),
    (("--sweep", "steps=1,2,3,4,5,6,7,8,9", "--sweep", "seed=1,2,3,4,5,6,7,8"), "64 cells, not 72"),
    (("--sweep", "steps=1", "--sweep", "seed=1", "--sweep", "cfg-scale=1", "--sweep", "width=64"),
     "3 axes"),
    (("--sweep", "steps=2,0"), "steps"),
    (("--sweep", "sampler=euler,eular"), "eular"),
    (("--sweep", "nonsense=1,2"), "nonsense"),
    (("--sweep", "steps=2,3", "--images", "2"), "images must be 1"),
    (("--sweep", "priority=2,3"), "the same for all cells"),
])
def test_what_is_no_sweep_is_refused_before_painting(generate, tmp_path, flags, words):
    done = generate("--prompt", "cat", *flags, check=False)
    assert done.returncode in (1, 2) and words in done.stderr, done.stderr
    assert not list(tmp_path.glob("*.png"))


def test_the_server_paints_the_same_sheet(generate, serve, tmp_path, png):
    flags = ("--prompt", "cat", "--seed", "5", "--sweep", "steps=2,3", "--sweep", "cfg_scale=1,4")
    generate(*flags, "-o", str(tmp_path / "here.png"))
    server = serve()
    generate(*flags, "--server", server.url, "-o", str(tmp_path / "there.png"))
    here, there = (png((tmp_path / name).read_bytes()) for name in ("here.png", "there.png"))
    assert (here.width, here.height, here.raw) == (there.width, there.height, there.raw)
    assert '"sweep"' in there.text["latentd"]
