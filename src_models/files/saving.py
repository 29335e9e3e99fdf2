"""Files are written whole or not at all: beside their place first, read back, compared, then put there in one step."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from src_models.errors import LsnetError, SaveError
from src_models.files.gate import shown_name

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def save_whole(
    path: Path, write: Callable[[IO[bytes]], None], verify: Callable[[Path], bool], *, overwrite: bool
) -> None:
    """Write a file that is either complete and verified, or as it was before.

    Parameters
    ----------
    path : Path
        Where it shall be.
    write : callable
        Writes the content into the open file it is given.
    verify : callable
        Reads the written file back and says whether it holds what was meant.
    overwrite : bool
        Whether a file that is there may be replaced.

    Raises
    ------
    SaveError
        Where it is there already, the disk is full, the folder is missing or cannot be written to.
    """
    name = shown_name(path)
    try:
        # A link keeps pointing at what it points at.
        target = path.resolve()
        folder_there, is_folder, exists = target.parent.is_dir(), target.is_dir(), target.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise SaveError("save-name", f"{name} was not saved", "its name cannot be used", "Choose another.") from error
    if not folder_there:
        raise SaveError("save-folder", f"{name} was not saved", "its folder does not exist", "Make the folder first.")
    if is_folder:
        raise SaveError("save-is-folder", f"{name} was not saved", "it is the name of a folder", "Choose another name.")
    if exists and not overwrite:
        raise _exists(name)
    # Short and plain, so that a name at the limit of the file system still has one beside it.
    part = target.parent / f".lsnet-{secrets.token_hex(8)}.part"
    try:
        with part.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if not verify(part):
            raise SaveError(
                "save-verify", f"{name} was not saved", "what was read back differs from it", "Check the disk."
            )
        _put_in_place(part, target, name, overwrite=overwrite)
    except OSError as error:
        raise _error_of(error, name) from error
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(target.parent)


def save_together(contents: Mapping[Path, bytes], *, overwrite: bool) -> None:
    """Write files that belong together: all of them, or none.

    Everything that can fail for want of space or rights is done before the first name is given; a file that was there
    before comes back where a later one cannot be put in place.

    Parameters
    ----------
    contents : mapping of Path to bytes
        In the order in which the files are put in place.
    overwrite : bool
        Whether files that are there may be replaced.

    Raises
    ------
    SaveError
        As `save_whole`.
    """
    staged: list[tuple[Path, Path]] = []
    placed: list[tuple[Path, Path | None]] = []
    spare: list[Path] = []
    name = ""
    try:
        for target, content in contents.items():
            name = shown_name(target)
            _check_target(target, name, overwrite=overwrite)
            part = target.parent / f".lsnet-{secrets.token_hex(8)}.part"
            staged.append((part, target))
            with part.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if part.read_bytes() != content:
                raise SaveError(
                    "save-verify", f"{name} was not saved", "what was read back differs from it", "Check the disk."
                )
        for part, target in staged:
            name = shown_name(target)
            before = _second_name(target)
            spare += [] if before is None else [before]
            _put_in_place(part, target, name, overwrite=overwrite)
            placed.append((target, before))
    except BaseException as error:
        for target, before in reversed(placed):
            if before is not None:
                os.replace(before, target)
            else:
                target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _error_of(error, name) from error
        raise
    finally:
        for path in [*(part for part, _ in staged), *spare]:
            path.unlink(missing_ok=True)
    for folder in dict.fromkeys(target.parent for target in contents):
        _sync_folder(folder)


def _second_name(target: Path) -> Path | None:
    """Another name for a file that is going to be replaced, so that it can come back; None where there is none."""
    if not target.exists():
        return None
    before = target.parent / f".lsnet-{secrets.token_hex(8)}.part"
    try:
        # the file keeps its own name until the new one takes it
        os.link(target, before)
    except OSError:
        # file systems without links, such as FAT
        shutil.copy2(target, before)
    return before


def _check_target(target: Path, name: str, *, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise SaveError("save-folder", f"{name} was not saved", "its folder does not exist", "Make the folder first.")
    if target.is_dir():
        raise SaveError("save-is-folder", f"{name} was not saved", "it is the name of a folder", "Choose another name.")
    if target.exists() and not overwrite:
        raise _exists(name)


def _put_in_place(part: Path, target: Path, name: str, *, overwrite: bool) -> None:
    if overwrite:
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
        return
    try:
        # Fails where a file of that name came into being meanwhile, unlike a rename.
        os.link(part, target)
    except FileExistsError as error:
        raise _exists(name) from error
    except OSError:
        # File systems without links, such as FAT.
        os.replace(part, target)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def _exists(name: str) -> SaveError:
    return SaveError("save-exists", f"{name} was not saved", "a file of that name exists", "Choose another name.")


def _error_of(error: OSError, name: str) -> LsnetError:
    what = f"{name} was not saved"
    if error.errno in _FULL:
        return SaveError("save-full", what, "the disk is full", "Free some space; what was there before is untouched.")
    if error.errno in _FORBIDDEN:
        return SaveError("save-forbidden", what, "its folder cannot be written to", "Choose another folder.")
    reason = os.strerror(error.errno).lower() if error.errno else "the system refused it"
    return SaveError("save-failed", what, reason, "Choose another name or folder.")
