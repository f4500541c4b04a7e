"""Captions of pictures. Every word is in the repository's ``benchmarks.mini_models.vocabulary``."""

from random import Random

from datamodules.mini.world.flags import FLAGS
from datamodules.mini.world.shapes import DIGITS

PHOTO = ("a photo of {}", "a picture of {}", "an image of {}", "{}", "this is {}", "a good photo of {}")
"""Openings of captions of photos."""
SKETCH = ("a drawing of {}", "a sketch of {}", "a drawing of {}", "a photo of {}", "{}")
"""Openings of captions of drawings."""
ROUGH = ("a bad photo of {}", "a photo of {}", "a blurry photo of {}", "a picture of {}", "{}")
"""Openings of captions of bad photos."""

_PLURALS = {"cross": "crosses", "fish": "fishes", "leaf": "leaves", "butterfly": "butterflies", "cherry": "cherries"}


def plural(name: str) -> str:
    """The plural of a sprite."""
    return _PLURALS.get(name, name + "s")


def article(phrase: str, rng: Random | None = None) -> str:
    """``phrase`` with "a", "an" or, now and then when ``rng`` is given, "the"."""
    if rng is not None and rng.random() < 0.15:
        return "the " + phrase
    # "a umbrella": the shipped weights were trained on such captions; to be corrected with the next WORLD_VERSION
    return ("an " if phrase[0] in "aeio" else "a ") + phrase


def sprite(name: str, colour: str, behind: str, fill: str, rng: Random) -> str:
    """The caption of a shape or object, without its opening."""
    roll = rng.random()
    if fill and roll < 0.8:
        return article(f"{fill} {colour} {name}" if roll < 0.4 else f"{fill} {name}", rng)
    if roll < 0.35:
        return article(name, rng)
    if roll < 0.8:
        return article(f"{colour} {name}", rng)
    return f"{article(f'{colour} {name}')} on {article(behind)} background"


def glyph(name: str, colour: str, behind: str, hand: str, rng: Random) -> str:
    """The caption of a letter or digit."""
    sort = "digit" if name in DIGITS else "letter"
    roll = rng.random()
    if hand and roll < 0.5:
        return f"a {hand} {sort} {name}"
    if roll < 0.65:
        return f"the {sort} {name}"
    if roll < 0.9:
        return article(f"{colour} {sort} {name}")
    return f"the {sort} {name} on {article(behind)} background"


def texture(name: str, first: str, second: str, _: str, rng: Random) -> str:
    """The caption of a texture."""
    roll = rng.random()
    if roll < 0.65:
        return article(f"{name} {rng.choice(('texture', 'pattern', 'texture', 'surface'))}", rng)
    return article(f"{first} and {second} {name} {rng.choice(('texture', 'pattern'))}")


def count(name: str, colour: str, _: str, counted: str, rng: Random) -> str:
    """The caption of several things."""
    # now and then "one objects", as the prompts of a counting task have it
    thing, objects = (counted, "object") if name == "one" and rng.random() < 0.7 else (plural(counted), "objects")
    roll = rng.random()
    if roll < 0.45:
        return f"{name} {objects}"
    if roll < 0.75:
        return f"{name} {thing}"
    return f"{name} {colour} {thing}"


def land(name: str, _: str, __: str, ___: str, rng: Random) -> str:
    """The caption of a land use."""
    return rng.choice(
        ("{} seen from above", "{} from the air", "an aerial view of {}", "a satellite image of {}")
    ).format(name)


def flag(name: str, _: str, __: str, ___: str, rng: Random) -> str:
    """The caption of a flag, by its country or its design."""
    roll = rng.random()
    if roll < 0.6:
        return f"the flag of {name}"
    if roll < 0.7:
        return f"a waving flag of {name}"
    layout, *c = FLAGS[name]
    if layout in ("vertical", "horizontal"):
        return f"a flag with {layout} bands of {c[0]} {c[1]} and {c[2]}"
    if layout == "halves":
        return f"a flag with {c[0]} over {c[1]}"
    if layout == "wedge":
        return f"a flag with {c[0]} over {c[1]} and {article(c[2])} triangle"
    if layout == "quarters":
        return f"a flag with quarters of {c[0]} {c[1]} and {c[2]}"
    return f"a flag with {article(c[1])} {layout} on {c[0]}"
