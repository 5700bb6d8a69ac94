"""Finds the images that `--data` refers to: single files, flat folders, unpaired sets (trainA/, testA/, ...), and
the paired layouts of pix2pix, CycleGAN, SegNet and Cityscapes.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from vemcompress.data.images import ImageError, open_image
from vemcompress.data.listing import list_images
from vemcompress.errors import InputError
from vemcompress.system import names
from vemcompress.system.events import Event

FLAT, FILE = "flat folder", "file"
_SPLIT = re.compile(r"(train|val|valid|test)[A-Z]?")
# Cityscapes has several files per photo; for label maps, the first existing kind is used.
PHOTO_SUFFIX, LABEL_SUFFIXES, COLOUR_SUFFIX = "_leftImg8bit", ("_labelIds", "_labelTrainIds"), "_color"


class Found(NamedTuple):
    """Images in a fixed order, and for every root which part of it they came from: a split's name, FLAT or FILE."""

    paths: list[Path]
    used: tuple[str, ...]


class Listing(NamedTuple):
    """How folders are listed: with sub-folders if `recursive`. Ignored files are reported to `on_event`."""

    recursive: bool = False
    on_event: Event | None = None

    def __call__(self, folder: Path, *, recursive: bool = False) -> list[Path]:
        """As `list_images`. `recursive` is for folders whose layout has sub-folders."""
        return list_images(folder, recursive=self.recursive or recursive, on_event=self.on_event)


def find_images(
    roots: str | os.PathLike | Sequence[str | os.PathLike],
    split: str = "trainA",
    *others: str,
    listed: Listing = Listing(),
) -> Found:
    """The images of all roots, root by root in natural order, without duplicates.

    A root is an image file, a flat folder, or the root of an unpaired set. Of the latter, the folder `split` is used,
    or the first existing one of `others`. Folders are listed as `listed` says. Raises InputError for a root that does
    not exist, has no images, or has splits but none of these.
    """
    if isinstance(roots, str | os.PathLike):
        roots = [roots]
    if not roots:
        raise InputError("no data: give at least one folder of images.")
    try:
        parts = [_in_singles(Path(names.found(root)), (split, *others), listed) for root in roots]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions.") from error
    paths = dict.fromkeys(path for found, _ in parts for path in found)
    return Found(list(paths), tuple(used for _, used in parts))


def _in_singles(root: Path, splits: Sequence[str], listed: Listing) -> tuple[list[Path], str]:
    if root.is_file():
        return [root], FILE
    for split in splits:
        if (root / split).is_dir():
            return listed(root / split), split
    present = _splits_of(root)
    try:
        return (listed._replace(recursive=False) if present else listed)(root), FLAT  # splits are separate folders
    except InputError:
        if not present:
            raise
        wanted = " or ".join(f"{split}/" for split in splits)
        raise InputError(
            f"{root}: no {wanted} in this folder, which has {', '.join(present)}; choose another split, or give one of "
            "these folders itself. For pairs, add --set data.kind=paired."
        ) from None


def find_test_images(
    roots: str | os.PathLike | Sequence[str | os.PathLike], split: str = "testA", *, listed: Listing = Listing()
) -> Found:
    """As `find_images`, for evaluation: if an unpaired set has no testA, its valA is used; `used` says which."""
    return find_images(roots, *((split, "valA") if split == "testA" else (split,)), listed=listed)


def _splits_of(root: Path) -> list[str]:
    """The sub-folders of a root whose names are splits (`trainA/`, `test/`, ...), sorted; empty if it is not a
    folder.
    """
    if not root.is_dir():
        return []
    return sorted(f"{p.name}/" for p in root.iterdir() if _SPLIT.fullmatch(p.name) and p.is_dir())


class Sides(NamedTuple):
    """The two folders of a split (or one, if pairs are side by side in one image)."""

    a: Path
    b: Path
    used: str
    cityscapes: bool = False
    domains: bool = False  # trainA + trainB, which need not be pairs


def find_sides(roots: Sequence[Path], split: str, single: bool = True) -> list[Sides]:
    """The folders of every root. Two roots that are plain folders are the sides A and B of one set.

    `single`: whether folders of single images are acceptable. `test` falls back to `val`. Raises InputError.
    """
    for root in roots:
        if not root.exists():
            raise InputError(f"{root}: no such file or folder; check the path.")
    if len({root.resolve() for root in roots}) < len(roots):
        raise InputError(f"{roots[-1]}: given more than once; give every folder once.")
    if len(roots) == 2 and all(_is_flat(root) for root in roots):
        return [Sides(roots[0], roots[1], FLAT)]
    split = re.sub(r"(?<=[a-z])[AB]$", "", split)  # train for trainA and trainB
    return [_in_pairs(root, split, single) for root in roots]


def _is_flat(root: Path) -> bool:
    return root.is_dir() and not _splits_of(root) and not (root / "leftImg8bit").is_dir()


def _in_pairs(root: Path, split: str, single: bool) -> Sides:
    splits = (split, "val") if split == "test" else (split,)
    for name in splits if root.is_dir() else ():
        if sides := _two_folders(root, name):
            return sides
        if single and (root / name).is_dir():
            return Sides(root / name, root / name, name)
    _check_both(root, splits)
    if present := _splits_of(root):
        folders = "{0}/" if single else "{0}A/ + {0}B/ or {0}/ + {0}_label/"
        wanted = " or ".join(folders.format(name) for name in splits)
        raise InputError(
            f"{root}: no {wanted} in this folder, which has {', '.join(present)}; choose another split or folder."
        )
    if all(_is_flat(root / side) for side in "AB"):
        return Sides(root / "A", root / "B", "A + B")
    if not single:
        raise InputError(f"{root}: one folder of single images, but two are needed; give its parent, or both folders.")
    return Sides(root, root, FLAT if root.is_dir() else FILE)


def _check_both(root: Path, splits: Sequence[str]) -> None:
    """Raises InputError for a root with only one of two sides, and without images of its own."""
    if not root.is_dir() or any(path.is_file() for path in root.iterdir()):
        return
    for sides in [("A", "B"), *((f"{split}A", f"{split}B") for split in splits)]:
        there, missing = sorted(sides, key=lambda side: not (root / side).is_dir())
        if (root / there).is_dir() and not (root / missing).is_dir():
            raise InputError(
                f"{root}: has {there}/, but {missing}/ with the other side of each pair is missing; add it."
            )


def _two_folders(root: Path, split: str) -> Sides | None:
    """The two folders of a split: trainA + trainB, train + train_label, A/train + B/train, train/A + train/B, or
    Cityscapes' layout.
    """
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        split = "val" if split == "test" else split  # Cityscapes' test labels are not published
        return _if_both(root / "leftImg8bit" / split, root / "gtFine" / split, split, cityscapes=True)
    return (
        _if_both(root / f"{split}A", root / f"{split}B", f"{split}A + {split}B", domains=True)
        or _if_both(root / split, root / f"{split}_label", f"{split} + {split}_label")
        or _if_both(root / "A" / split, root / "B" / split, f"A/{split} + B/{split}")
        or _if_both(root / split / "A", root / split / "B", f"{split}/A + {split}/B")
    )


def _if_both(a: Path, b: Path, used: str, **what: bool) -> Sides | None:
    return Sides(a, b, used, **what) if a.is_dir() and b.is_dir() else None


def match(sides: Sides, colours: bool = False, listed: Listing = Listing()) -> tuple[list[Path], list[Path]]:
    """The images of two folders, pairs at equal positions: files whose names are equal except for the extension.

    `colours`: use Cityscapes' colour images, not its maps of numbers. Raises InputError for an image without a partner.
    """
    a = listed(sides.a, recursive=sides.cityscapes)
    b = listed(sides.b, recursive=sides.cityscapes)
    if sides.cityscapes:
        ends = (COLOUR_SUFFIX,) if colours else LABEL_SUFFIXES
        kept = next((found for end in ends if (found := [p for p in b if p.stem.endswith(end)])), None)
        if kept is None:
            raise InputError(
                f"{sides.b}: no *{' or *'.join(ends)} images here; put Cityscapes' gtFine into this folder."
            )
        b = kept
    left, right = _by_name(sides.a, a), _by_name(sides.b, b)
    lonely = [left[name] for name in left if name not in right] + [right[name] for name in right if name not in left]
    if lonely:
        alone = len(left.keys() - right.keys()), len(right.keys() - left.keys())
        shown = ", ".join(f"{p.parent.name}/{p.name}" for p in lonely[:3]) + (", ..." if len(lonely) > 3 else "")
        raise InputError(
            f"{sides.a} and {sides.b}: {alone[0]} of {len(a)} and {alone[1]} of {len(b)} images have no partner of the "
            f"same name ({shown}); add the partners, or remove these images."
        )
    return list(left.values()), [right[name] for name in left]


def _by_name(folder: Path, paths: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        name = re.sub(rf"({PHOTO_SUFFIX}|_gtFine_[A-Za-z]+)$", "", name)
        if name in named:
            raise InputError(f"{folder}: {named[name].name} and {path.name} have the same name; keep one of them.")
        named[name] = path
    return named


def check_widths(paths: Sequence[Path]) -> None:
    """Raises InputError for the first image with an odd width, by its header; unreadable headers are skipped."""
    with ThreadPoolExecutor(4) as pool:
        for path, odd in zip(paths, pool.map(_is_odd, paths), strict=True):
            if odd:
                raise odd_width(path, odd)


def odd_width(path: Path, width: int) -> InputError:
    """The error for an image that cannot be cut into two halves."""
    return InputError(
        f"{path}: {width} px wide, so it cannot be two images of equal width side by side; crop it, or remove it."
    )


def _is_odd(path: Path) -> int | None:
    try:
        with open_image(path) as image:
            # An image with a rotation in its EXIF data is checked when it is read, upright.
            return image.width if image.width % 2 and "exif" not in image.info else None
    except ImageError:
        return None


def is_twice_as_wide(paths: Sequence[Path]) -> bool:
    """Whether the first readable image is exactly two squares side by side, as published pairs are."""
    for path in paths:
        try:
            with open_image(path) as image:
                return image.width == 2 * image.height
        except ImageError:
            continue
    return False
