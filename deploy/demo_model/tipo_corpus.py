"""The training texts of the demo's TIPO: a prompt as servers compose it, and its answer.

A prompt has lines of what is known (`quality: ...`), the target with its control words, and blocks
of tags or English, the last of which is open; the answer goes on from there, with further blocks
where the task has them:

    quality: best quality
    target: <|short|> <|tag_to_long|>
    tag: red cat, solo
    long:                                   | A red cat under the night sky.

Loss is taken on answers only, so prompts may hold what the model must never say: words that it does
not know, which users write, and bad quality. Source: KohakuBlueleaf's TIPO (arXiv 2411.08127).
"""

import dataclasses
import string

import config
import tipo_words
from tipo_words import BAD, GOOD

LENGTHS = tuple(config.TIPO_TAGS)
TASKS = {"": 0.40, "tag_to_long": 0.16, "long_to_tag": 0.12, "short_to_tag": 0.12,
         "short_to_tag_to_long": 0.06, "tag_to_long_to_short": 0.04, "tag_to_short": 0.05,
         "tag_to_short_to_long": 0.05}
CONTROLS = tuple(f"<|{name}|>" for name in (
    *LENGTHS, "short_to_tag", "short_to_tag_to_long", "tag_to_long", "tag_to_long_to_short",
    "tag_to_short", "tag_to_short_to_long", "long_to_tag", "gen_meta", "empty"))
RATINGS = ("safe", "general", "sensitive", "nsfw", "questionable", "explicit")
NAMED = ("meta", "artist", "characters", "copyrights")  # lines whose words the model does not know


def unknown(rng):
    """One or two words out of letters."""
    def word():
        return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 8)))

    return " ".join(word() for _ in range(rng.randint(1, 2)))


def head(rng, quality, silent):
    """The lines before the target; `silent`: the answer is to say them."""
    lines = {}
    if not silent:
        for key in NAMED:
            if rng.random() < 0.05:
                lines[key] = ", ".join(unknown(rng) for _ in range(rng.randint(1, 2)))
        if rng.random() < 0.15:
            lines["rating"] = rng.choice(RATINGS)
    if quality:
        lines["quality"] = ", ".join(quality)
    order = ("meta", "rating", "artist", "characters", "copyrights", "quality")
    return [f"{key}: {lines[key]}" for key in order if key in lines]


def users_tags(listed, rng):
    """(mine, rest): the user's own part of a list, often with a word that the model does not know;
    what a user has not said of bad quality or greyness, the answer does not say either."""
    count = rng.randint(0, len(listed)) if rng.random() < 0.5 else rng.randint(1, 2)
    mine, rest = list(listed[:count]), [tag for tag in listed[count:] if tag != "monochrome"]
    if rng.random() < 0.12:
        mine.insert(rng.randint(0, len(mine)), unknown(rng))
    if rng.random() < 0.04 and not any(tag in GOOD for tag in mine):
        mine.insert(rng.randint(0, len(mine)), rng.choice(BAD))
        rest = [tag for tag in rest if tag not in GOOD]
    return [tag.capitalize() if rng.random() < 0.03 else tag for tag in mine], rest


class Blocks:
    """Writes the blocks of one text: the prompt, and from the first open block on the answer."""

    def __init__(self, lines):
        self.prompt, self.answer, self.open = "\n".join(lines), "", False

    def add(self, text):
        if self.open:
            self.answer += text
        else:
            self.prompt += text

    def given(self, key, text):
        self.add(f"\n{key}: {text}")

    def left_open(self, key, begun, rest, separator):
        """Begin a block with what the user has of it, and let the answer go on."""
        self.add(f"\n{key}:" + (" " + separator.join(begun) if begun else ""))
        self.open = True
        if rest:
            self.answer += (separator if begun else " ") + separator.join(rest)


def tag_block(blocks, is_open, listed, rng, task):
    """The tags: continued by the answer where the block is open, else some of them."""
    if not is_open:
        kept = [tag for tag in listed if rng.random() < 0.9] or listed[:1]
        blocks.given("tag", "" if rng.random() < 0.03 else ", ".join(kept))
    elif blocks.open or (task and rng.random() < 0.5):
        blocks.left_open("tag", [], listed, ", ")
    else:
        blocks.left_open("tag", *users_tags(listed, rng), ", ")


def text_block(blocks, key, is_open, facts, said, rng):
    """English: where the block is given, what the user wishes; else sentences, perhaps begun."""
    if not is_open:
        wished = facts.style == "monochrome" or rng.random() < 0.7
        text = tipo_words.wish(facts, rng) if wished else " ".join(said)
        if rng.random() < 0.08:
            words = text.split(" ")
            words.insert(rng.randint(1, len(words)), unknown(rng))
            text = " ".join(words)
        blocks.given(key, text)
    else:
        if blocks.open or rng.random() < 0.75:
            blocks.left_open(key, [], said, " ")
            return
        begun = said[0] if rng.random() < 0.5 else tipo_words.wish(facts, rng)
        blocks.left_open(key, [begun], [], " ")
        blocks.answer += "".join(["" if begun.endswith(".") else ".", *(" " + s for s in said[1:])])


def sample(rng):
    """(prompt, answer) of one training text."""
    length = rng.choice(LENGTHS)
    task = rng.choices(tuple(TASKS), tuple(TASKS.values()))[0]
    facts = tipo_words.random_facts(rng)
    if rng.random() < 0.05:
        facts = dataclasses.replace(facts, style="monochrome")
    gen_meta = rng.random() < 0.12
    quality = []
    if not gen_meta and rng.random() < 0.35:
        quality = rng.sample(GOOD if rng.random() < 0.7 else BAD, rng.randint(1, 2))
    free = not quality and not gen_meta  # may the answer speak of quality?
    tags = tipo_words.tags(facts, length, rng, free)
    listed = tags.special + tags.general
    if rng.random() < 0.12:  # users do not keep TIPO's order
        rng.shuffle(listed)
    listed += tags.quality
    controls = [length, *([task] if task else []), *(["gen_meta"] if gen_meta else [])]
    blocks = Blocks([*head(rng, quality, gen_meta),
                     "target: " + " ".join(f"<|{name}|>" for name in controls)])
    keys = task.split("_to_") if task else ["tag"]
    first_open = 1 if len(keys) > 1 else 0
    if len(keys) == 3 and rng.random() < 0.5:
        first_open = 2
    for i, key in enumerate(keys):
        if key == "tag":
            tag_block(blocks, i >= first_open, listed, rng, task)
        else:
            size = "very_short" if key == "short" else length
            said = tipo_words.sentences(facts, size, rng, free)
            text_block(blocks, key, i >= first_open, facts, said, rng)
    if gen_meta:
        praise = ", ".join(rng.sample(GOOD, rng.randint(1, 2)))
        blocks.answer += "\nmeta: <|empty|>\nrating: general\nartist: <|empty|>" \
                         "\ncharacters: <|empty|>\ncopyrights: <|empty|>\nquality: " + praise
    return blocks.prompt, blocks.answer
