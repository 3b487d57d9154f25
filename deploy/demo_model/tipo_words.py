"""What the demo's TIPO may say about a scene: tags and short English sentences, from scene.py.

`tags(facts, length, rng)` is a whole list, as TIPO orders it: how many there are, what they are and
what is around them, quality at the end. `sentences(facts, length, rng)` says the same in English.
Nothing contradicts the facts: one subject, one colour, one background.

    facts = random_facts(rng)            # a scene.Scene of good quality
    tags(facts, "short", rng)            # Tags([], ["red cat", "night sky"], ["best quality"])
    sentences(facts, "short", rng)       # ["A red cat under the night sky.", "The cat is alone."]
"""

import dataclasses

import config
import scene

GOOD = ("best quality", "amazing quality", "great quality", "very aesthetic", "aesthetic")
BAD = ("normal quality", "bad quality", "worst quality", "displeasing", "very displeasing")
PLACES = {
    "cloudy sky": ("under a cloudy sky", "below the cloudy sky"),
    "night sky": ("under the night sky", "below the night sky"),
    "sunset": ("at sunset", "in front of a sunset"),
    "grass field": ("in a grass field", "on a grass field"),
    "beach": ("on a beach", "at the beach"),
    "snow": ("in the snow", "on snow"),
    "underwater": ("underwater", "deep underwater"),
}
SURROUNDINGS = {"cloudy sky": "a cloudy sky", "night sky": "the night sky", "sunset": "a sunset",
                "grass field": "a grass field", "beach": "a beach", "snow": "snow",
                "underwater": "underwater"}


@dataclasses.dataclass
class Tags:
    """A list in its three parts."""

    special: list
    general: list
    quality: list


def random_facts(rng):
    """A scene whose quality nobody has spoken of."""
    count = rng.choices((1, 2, 3), (0.82, 0.11, 0.07))[0]
    position = rng.choices(tuple(scene.POSITIONS), (0.22, 0.56, 0.22))[0]
    return scene.Scene(
        subject=rng.choice(scene.SUBJECTS), colour=rng.choice(tuple(scene.COLOURS)),
        background=rng.choice(scene.BACKGROUNDS), position=position if count == 1 else "centre",
        count=count, style="pastel" if rng.random() < 0.2 else "")


def noun(facts):
    return facts.subject.replace("1", "") if facts.count == 1 else scene.PLURALS[facts.subject]


def naming(facts, rng, many):
    """(special, general): subject and colour as one tag, as two, or, if many are wanted, both."""
    number = "" if facts.count == 1 else scene.COUNT_WORDS[facts.count] + " "
    if facts.subject == "1girl":
        return ["1girl" if facts.count == 1 else f"{number}girls"], [f"{facts.colour} hair"]
    one, two = [f"{number}{facts.colour} {noun(facts)}"], [f"{number}{noun(facts)}", facts.colour]
    if many:
        return [], rng.sample(one + two, 3)
    return [], one if rng.random() < 0.75 else two


def tags(facts, length, rng, quality=True):
    """Tags of one class of length; `quality` lets good words be among them."""
    count = rng.randint(*config.TIPO_TAGS[length])
    special, general = naming(facts, rng, count >= 8 and rng.random() < 0.7)
    general.append(facts.background)
    if facts.style == "monochrome":
        general.append(facts.style)
    more = [*(["solo"] if facts.count == 1 else []),
            *([f"{facts.position} side"] if facts.position != "centre" else []),
            *(["pastel"] if facts.style == "pastel" else []), *(GOOD if quality else ())]
    rng.shuffle(more)
    if count < 8:  # two words on quality are enough in a short list
        praise = [tag for tag in more if tag in GOOD]
        more = [tag for tag in more if tag not in praise[2:]]
    more = more[: max(count - len(special) - len(general), 0)]
    general += [tag for tag in more if tag not in GOOD]
    if rng.random() < 0.6:
        rng.shuffle(general)
    return Tags(special, general, [tag for tag in more if tag in GOOD])


def whole(facts):
    """ "a red cat", "two girls with red hair"."""
    girl = facts.subject == "1girl"
    words = noun(facts) if girl else f"{facts.colour} {noun(facts)}"
    if facts.count == 1:
        words = ("an " if words[0] in "aeiou" else "a ") + words
    else:
        words = f"{scene.COUNT_WORDS[facts.count]} {words}"
    return words + (f" with {facts.colour} hair" if girl else "")


def first_sentence(facts, rng):
    who, where = whole(facts), rng.choice(PLACES[facts.background])
    be = "is" if facts.count == 1 else "are"
    ways = (f"{who[0].upper()}{who[1:]} {where}.", f"There {be} {who} {where}.",
            f"This is a picture of {who} {where}.", f"The picture shows {who} {where}.")
    return rng.choices(ways, (0.55, 0.15, 0.15, 0.15))[0]


def sentences(facts, length, rng, quality=True):
    """Sentences of one class of length, the first of which says subject, colour and background."""
    count = rng.randint(*config.TIPO_SENTENCES[length])
    who = "The " + noun(facts)
    be, have = ("is", "has") if facts.count == 1 else ("are", "have")
    more = [f"{who} {have} {facts.colour} hair." if facts.subject == "1girl"
            else f"{who} {be} {facts.colour}.",
            "The scene is underwater." if facts.background == "underwater"
            else f"The background is {SURROUNDINGS[facts.background]}."]
    if facts.count == 1:
        more.append(f"{who} is alone.")
    if facts.position != "centre":
        more.append(f"{who} is on the {facts.position} side.")
    if facts.style:
        more.append(f"It is a {facts.style} picture.")
    if quality:
        more += [f"The picture has {rng.choice(GOOD[:3])}.", f"It is {rng.choice(GOOD[3:])}."]
    rng.shuffle(more)
    return [first_sentence(facts, rng), *more[: count - 1]]


def wish(facts, rng):
    """What a user might write: plain English that may leave out colour or background."""
    who = whole(facts)
    if rng.random() < 0.15:
        who = who.replace(f" with {facts.colour} hair", "").replace(f"{facts.colour} ", "")
        who = "a " + who[3:] if who.startswith("an ") else who
    where = "" if rng.random() < 0.25 else " " + rng.choice(PLACES[facts.background])
    before = rng.choices(("", "a picture of ", "i want ", "this is ", "draw "),
                         (0.6, 0.1, 0.1, 0.1, 0.1))[0]
    if facts.style == "monochrome" or (facts.style and rng.random() < 0.6):
        before = f"a {facts.style} picture of "
    text = before + who + where
    if rng.random() < 0.1 and facts.position != "centre":
        text += f" on the {facts.position} side"
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    return text + ("." if rng.random() < 0.6 else "")
