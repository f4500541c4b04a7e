"""The vocabulary of the small CLIP: byte-pair merges under which every word of the world is one token.

The file is read by open_clip's ``SimpleTokenizer``. Any other text becomes bytes or shorter pieces, so every
text has tokens.
"""

import gzip
import io
from collections import Counter
from itertools import pairwise
from pathlib import Path

_FUNCTION_WORDS = (
    "a an the of on in with and over this is from photo picture image good bad blurry drawing sketch background digit "
    "letter handwritten texture pattern surface object objects flag waving vertical horizontal bands quarters disc "
    "saltire wedge plus seen above air aerial view satellite"
)


def words() -> list[str]:
    """Every word that a caption of the world or a prompt of a task uses, sorted."""
    from datamodules.mini.world import COLOURS, KINDS, SPRITES
    from datamodules.mini.world.captions import plural
    from datamodules.mini.world.flags import FLAGS

    vocabulary = set(_FUNCTION_WORDS.split()) | set(COLOURS)
    for kind in KINDS.values():
        vocabulary.update(kind.names)
    vocabulary.update(plural(name) for name in SPRITES)
    vocabulary.update(word for flag in FLAGS.values() for word in flag)
    return sorted(vocabulary)


def merges(vocabulary: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first (ties in alphabetical order), until each word is a single token."""
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in sorted(vocabulary)]
    tokens = {piece for word in pieces for piece in word}
    result: list[tuple[str, str]] = []
    while True:
        # A string that two different merges could make would have two ids: only its first merge is allowed.
        pairs = Counter(pair for word in pieces for pair in pairwise(word) if "".join(pair) not in tokens)
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        result.append(best)
        tokens.add("".join(best))
        pieces = [_apply(best, word) for word in pieces]
    split = ["".join(word) for word in pieces if len(word) > 1]
    if split:
        raise ValueError(f"no single token for {split}")
    return result


def _apply(pair: tuple[str, str], word: list[str]) -> list[str]:
    """Join every occurrence of ``pair`` in ``word``, from the left."""
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def write_merges(path: Path) -> int:
    """Write the merges file, byte for byte the same on every machine; returns the size of its vocabulary."""
    pairs = merges(words())
    text = "\n".join(["#version: MiniMTIL 1", *(" ".join(pair) for pair in pairs)])
    buffer = io.BytesIO()
    # Stored, not compressed: compressors differ between machines, the stored format does not.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=0, fileobj=buffer, mtime=0) as file:
        file.write(text.encode())
    path.write_bytes(buffer.getvalue())
    return 512 + len(pairs) + 2  # bytes, bytes at the end of a word, merges, start and end of text
