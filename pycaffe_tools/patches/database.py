"""A patch database: ``patches.json``, read field by field, and the lists of its shards (:mod:`.shards`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..base.errors import UserError
from ..base.fields import Fields, read_fields
from ..base.files import PathLike, read_json
from ..nets.model import Normalisation, read_normalisation
from ..volumes.paths import split_dataset

INFO = "patches.json"
FORMAT = 1
SPLITS = ("train", "val")
PRODUCTS = (INFO, *(f"{split}{ending}" for split in SPLITS for ending in (".txt", "_000.h5")))
"""What a database holds, and ``--force`` replaces; there may be shards of any number."""

BY_STACK = {"by": "stack"}
"""What stands for a normalisation where each stack is normalised by its own mean and standard deviation."""

class Database(NamedTuple):
    """An opened patch database.

    train, val : shards, absolute, in order.
    train_count, val_count : patches.
    patch_size : side of a patch in pixels.
    normalisation : mean and std of the training slices' grey values; None where each stack has its own.
    pixel_size_nm : z, y, x; None where unknown.
    info : content of ``patches.json``.
    """

    directory: Path
    train: List[Path]
    val: List[Path]
    train_count: int
    val_count: int
    patch_size: int
    normalisation: Optional[Normalisation]
    pixel_size_nm: List[Optional[float]]
    info: Dict[str, Any]

    def model_normalisation(self) -> Dict[str, Any]:
        """The normalisation as ``model.json`` holds it: mean and std, or those of each stack with the stack's hash."""
        if self.normalisation is not None:
            return self.normalisation._asdict()
        return {**BY_STACK, "stacks": [{"sha256": source["raw"]["sha256"], "dataset": split_dataset(source["raw"]["path"])[1],
                                        **source["normalisation"]} for source in self.info["sources"]]}

    def check_patch_size(self, wanted: int, owner: PathLike) -> None:
        """Refuse a network for patches of another size.

        Parameters
        ----------
        wanted : side of the network's patches in pixels.
        owner : where the network is, for the message.

        Raises
        ------
        UserError : names both sizes.
        """
        if self.patch_size != wanted:
            raise UserError(f"{self.directory}: its patches have {self.patch_size} x {self.patch_size} pixels, but {owner} is "
                            f"for patches of {wanted} x {wanted}; use the database that it was trained on, or make one with "
                            f"python -m pycaffe_tools.patches --patch-size {wanted}")


def open_database(path: PathLike) -> Database:
    """Open a patch database; it may have been moved since it was made.

    Raises
    ------
    UserError : not a database, of a later format, or with shards missing or cut.
    """
    directory = Path(path).absolute()
    if not (directory / INFO).is_file():
        raise UserError(f"{path}: holds no {INFO}, so it is not a complete patch database; make one with "
                        f"python -m pycaffe_tools.patches")
    fields = read_fields(directory / INFO)
    if fields.whole("format") != FORMAT:
        raise UserError(f"{directory / INFO}: is not of format {FORMAT}; make the database again")
    patch_size = fields.whole("patch_size", 1)
    shards: Dict[str, List[Path]] = {}
    counts: Dict[str, int] = {}
    for name in SPLITS:
        split = fields.fields(name)
        described = split.objects("shards")
        shards[name] = [directory / shard.text("file") for shard in described]
        counts[name] = split.whole("patches", 1)
        if sum(shard.whole("patches") for shard in described) != counts[name]:
            raise UserError(f"{directory / INFO}: says that there are {counts[name]} {name} patches, but its shards hold "
                            f"another number; make the database again")
        for file, shard in zip(shards[name], described):
            # Told before anything is made for patches of that size; shards are not compressed.
            if shard.whole("patches") * patch_size ** 2 * 4 > shard.whole("bytes"):
                raise UserError(f"{directory / INFO}: says that patches have {patch_size} x {patch_size} pixels, but {file.name} is "
                                f"too small for that; copy it again, or make the database again")
            if not file.is_file() or file.stat().st_size != shard.whole("bytes"):
                raise UserError(f"{file}: is missing or not as long as {INFO} says; copy it again, or make "
                                f"the database again")
    info: Dict[str, Any] = read_json(directory / INFO)
    fields.number("class_balance", 0, 1)
    return Database(directory, shards["train"], shards["val"], counts["train"], counts["val"],
                    patch_size, _normalisation(fields), fields.sizes("pixel_size_nm", 3), info)


def _normalisation(fields: Fields) -> Optional[Normalisation]:
    """That of all stacks together, or None where each source has one of its own."""
    if fields.get("normalisation") == BY_STACK:
        for source in fields.objects("sources"):
            read_normalisation(source.fields("normalisation"))
        return None
    return read_normalisation(fields.fields("normalisation"))


def lists(database: Database, directory: PathLike) -> Tuple[Path, Path]:
    """Write ``train.txt`` and ``val.txt`` with the shards' present absolute paths into ``directory``.

    Caffe opens what is in the list relative to its own working directory, and
    the list in the database names the place where it was made.

    Raises
    ------
    UserError : a path with white space, at which Caffe's reader of lists would split it.
    """
    written = []
    for name, shards in (("train", database.train), ("val", database.val)):
        if any(len(str(shard).split()) != 1 for shard in shards):
            raise UserError(f"{database.directory}: Caffe splits list files at white space and cannot read from a "
                            f"folder with a space in its path; rename or move it")
        written.append(Path(directory) / f"{name}.txt")
        written[-1].write_text("".join(f"{shard}\n" for shard in shards), encoding="utf-8")
    return written[0], written[1]
