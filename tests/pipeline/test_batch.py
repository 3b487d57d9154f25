"""Proves that `batch` paints ComfyUI's batches: one seed, rows of one draw of noise, row 0 the picture of
the seed alone, every row the same when it is painted without the others."""

FLAGS = ("--prompt", "cat", "--seed", "5", "--output-metadata", "none")


def painted(generate, tmp_path, *words, count=1):
    generate(*FLAGS, *words)
    names = ["out.png"] if count == 1 else [f"out-{i}.png" for i in range(count)]
    return [(tmp_path / name).read_bytes() for name in names]


def test_rows_of_one_draw(generate, tmp_path):
    rows = painted(generate, tmp_path, "--images", "3", "--batch-size", "3", count=3)
    assert len(set(rows)) == 3
    assert rows[0] == painted(generate, tmp_path)[0]
    assert rows[2] == painted(generate, tmp_path, "--batch-size", "3", "--batch-index", "2")[0]
    seeds = painted(generate, tmp_path, "--images", "2", count=2)
    assert seeds[0] == rows[0] and seeds[1] != rows[1]


def test_what_is_no_batch_is_refused(generate):
    for words, sentence in ((("--images", "3", "--batch-size", "2"), "batch.size must be at least"),
                            (("--batch-index", "1"), "batch.index needs batch.size"),
                            (("--batch-size", "2", "--profile", "a1111"), "profile comfy")):
        done = generate(*FLAGS, *words, check=False)
        assert done.returncode != 0 and sentence in done.stderr, done
