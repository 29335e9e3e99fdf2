"""Download of a model that the manifest names: resumed, verified, put in place in one step; only when asked for.

Pooch fetches over HTTP into a part file of this process; certificates are always checked, and the proxy and certificate
settings of the system hold. A part that was left behind is gone on with where the server can.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, Any

from src_models.errors import FileError, InputError, LsnetError, SaveError
from src_models.files.gate import shown
from src_models.files.saving import save_whole
from src_models.progress import Progress
from src_models.weights.listing import Entry, entry_of, models_folder
from src_models.weights.manifest import Manifest, Offer, read_manifest
from src_models.weights.pairs import WEIGHTS_SUFFIX, card_path, card_text, check_hash, hash_file, stem_of

CONNECT_S, READ_S = 10.0, 30.0
_POLL_S = 0.1
_ATTEMPTS = 3
# what a cut connection loses at most
_CHUNK = 2**14
_ADDRESS = re.compile(r"https?://[^\s/]+/?\S*\Z", re.IGNORECASE)


def offer_named(name: str, manifest: Manifest | None = None) -> Offer:
    """The offer of a name, or of ``NAME@VERSION``; the last of several.

    Raises
    ------
    InputError
        Where the manifest has none.
    """
    wanted, _, version = name.partition("@")
    offers = (read_manifest() if manifest is None else manifest).models
    found = [offer for offer in offers if offer.name == wanted and version in ("", offer.version)]
    if not found:
        known = ", ".join(dict.fromkeys(offer.name for offer in offers))
        raise InputError(
            "download-name",
            f"No model named {shown(name)} can be downloaded",
            f"there are: {known}" if known else "no model is offered for download",
            "See lsnet weights list for those that are here, or import a file: lsnet weights import FILE.",
        )
    return found[-1]


def download(
    offer: Offer,
    folder: str | os.PathLike[str] | None = None,
    *,
    url: str | None = None,
    proxy: str | None = None,
    offline: bool = False,
) -> Generator[Progress, None, Entry]:
    """Download a model; a generator of progress that returns its place in the list.

    Closing it stops within a moment and keeps what came, for the next time.

    Parameters
    ----------
    offer : Offer
        From `offer_named`.
    folder : path-like, optional
        As in `models_folder`; made where it is missing.
    url : str, optional
        Another address of the file, or, with a final "/", of a mirror that holds files by their names. Asked first.
    proxy : str, optional
        For this download; by default what the system says.
    offline : bool
        Ask no network: the error says which file to put where.

    Raises
    ------
    FileError
        Where no mirror gives the right file, or `offline` is set: it names the file, the folder and the hash.
    SaveError
        Where the folder cannot be written or has not enough space.
    """
    place = models_folder(folder)
    target = place / (stem_of(offer.card) + WEIGHTS_SUFFIX)
    addresses = _addresses(offer, url, target.name)
    if (yield from _is_complete(target, offer)):
        _write_card(target, offer)
        return entry_of(target)
    if offline:
        raise by_hand(offer, place, "working offline is switched on")
    _make_ready(place, target, offer)
    part = _own_part(place, offer)
    try:
        yield from _fetch_from_any(addresses, part, offer, place, proxy)
        os.replace(part, target)
        _write_card(target, offer)
    except OSError as error:
        raise _not_written(target, error) from error
    finally:
        _leave(part, offer)
    return entry_of(target)


def by_hand(offer: Offer, folder: Path, why: str) -> FileError:
    """The error that says what to put where: file, folder and hash."""
    name = stem_of(offer.card)
    return FileError(
        "download-failed",
        f"{name} was not downloaded",
        why,
        f"Put {name}{WEIGHTS_SUFFIX} into {folder} yourself (SHA-256 {offer.sha256}), then ask for it again.",
    )


def _fetch_from_any(
    addresses: Sequence[str], part: Path, offer: Offer, folder: Path, proxy: str | None
) -> Generator[Progress, None, None]:
    """Fill the part from the first mirror that gives the right file."""
    why = ""
    for address in addresses:
        for _ in range(_ATTEMPTS):
            before = part.stat().st_size if part.exists() else 0
            try:
                yield from _fetch(address, part, offer, proxy)
            except _TooLongError:
                why = "the server gave more than the file that it should be"
                part.unlink(missing_ok=True)
                break
            except _DiskError as error:
                raise _not_written(part, error.cause) from error
            except (OSError, ValueError) as error:
                why = _reason(error)
                # a mirror that gave nothing new is not asked again
                if not part.exists() or part.stat().st_size <= before:
                    break
                continue
            if part.stat().st_size < offer.size_bytes:
                why = "the server ended early"
                if part.stat().st_size <= before:
                    break
                continue
            found = yield from hash_file(part)
            try:
                check_hash(found, offer.sha256, stem_of(offer.card))
            except FileError as error:
                why = error.why
                part.unlink(missing_ok=True)
                break
            return
    raise by_hand(offer, folder, why)


def _fetch(address: str, part: Path, offer: Offer, proxy: str | None) -> Generator[Progress, None, None]:
    """One request, on a thread, because a server may be silent for long and stopping must not wait for it."""
    sink = _Sink(part, offer.size_bytes)
    failure: list[BaseException] = []

    def request() -> None:
        from pooch import HTTPDownloader

        options: dict[str, Any] = {"timeout": (CONNECT_S, READ_S), "hooks": {"response": sink.begins}}
        # compressed transfer would make the bytes of a range others than those of the file
        options["headers"] = {"Accept-Encoding": "identity"}
        if sink.size:
            options["headers"]["Range"] = f"bytes={sink.size}-"
        if proxy:
            options["proxies"] = {"http": proxy, "https": proxy}
        try:
            HTTPDownloader(chunk_size=_CHUNK, **options)(address, sink, None)
        except BaseException as error:
            failure.append(error)
        finally:
            sink.hang_up()

    thread = threading.Thread(target=request, name="model download", daemon=True)
    try:
        if sink.size < offer.size_bytes:
            thread.start()
            while True:
                thread.join(_POLL_S)
                yield _progress(sink.size, offer)
                if not thread.is_alive():
                    break
    finally:
        sink.close()
    if failure:
        raise failure[0]


class _TooLongError(Exception):
    """More came than the file has."""


class _DiskError(Exception):
    """The part could not be written: not the fault of a mirror."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Sink:
    """Where a request writes to; once closed it takes nothing more, however late the thread is."""

    def __init__(self, path: Path, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise _DiskError(error) from error
        self.size = self._file.tell()
        self._response: Any = None

    def begins(self, response: Any, *_: Any, **__: Any) -> None:
        """Look at the head of the answer: a server that cannot resume sends all of it."""
        self._response = response
        said = str(response.headers.get("Content-Range", ""))
        resumed = response.status_code == 206 and said.startswith(f"bytes {self.size}-")
        if response.status_code in (200, 206) and not resumed:
            if response.status_code == 206:
                raise ValueError("the server resumes at another place")
            with self._lock:
                if not self._file.closed:
                    self._file.truncate(0)
                    self.size = 0

    def write(self, chunk: bytes) -> None:
        with self._lock:
            if self._file.closed:
                raise ValueError("stopped")
            if self.size + len(chunk) > self._limit:
                raise _TooLongError
            try:
                self._file.write(chunk)
            except OSError as error:
                raise _DiskError(error) from error
            self.size += len(chunk)

    def flush(self) -> None:
        """Nothing: it is done once, at the end."""

    def hang_up(self) -> None:
        """End the connection; for the thread that opened it."""
        if self._response is not None:
            self._response.close()

    def close(self) -> None:
        with self._lock:
            if self._file.closed:
                return
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
            except OSError as error:
                raise _DiskError(error) from error


def _own_part(folder: Path, offer: Offer) -> Path:
    """A part file that only this process writes to; one that was left behind is taken over."""
    mine = folder / f".{offer.sha256[:20]}-{_owner()}-{secrets.token_hex(4)}.part"
    for left in sorted(folder.glob(f".{offer.sha256[:20]}-*.part")):
        if _is_left(left.name):
            try:
                # of several processes that try, one succeeds
                os.rename(left, mine)
            except OSError:
                continue
            if mine.stat().st_size > offer.size_bytes:
                mine.unlink()
                continue
            break
    return mine


def _leave(part: Path, offer: Offer) -> None:
    """Give a part that was not finished its name for whoever goes on with it."""
    if part.exists():
        try:
            os.replace(part, part.with_name(f".{offer.sha256[:20]}-left.part"))
        except OSError:
            return


def _owner() -> str:
    host = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:30] or "host"
    return f"{host}-{os.getpid()}"


def _is_left(name: str) -> bool:
    """Whether nobody writes to a part any more: it was left on purpose, or its process on this machine is gone."""
    if name.endswith("-left.part"):
        return True
    import psutil

    parts = name.split("-")
    host, _, _pid = _owner().rpartition("-")
    return len(parts) == 4 and parts[1] == host and parts[2].isdecimal() and not psutil.pid_exists(int(parts[2]))


def _is_complete(target: Path, offer: Offer) -> Generator[Progress, None, bool]:
    """Whether the file is there already, as after it was put there by hand."""
    if not target.is_file() or target.stat().st_size != offer.size_bytes:
        return False
    return (yield from hash_file(target)) == offer.sha256


def _write_card(target: Path, offer: Offer) -> None:
    text = card_text(offer.card)

    def write(file: IO[bytes]) -> None:
        file.write(text)

    save_whole(card_path(target), write, lambda part: part.read_bytes() == text, overwrite=True)


def _make_ready(folder: Path, target: Path, offer: Offer) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _not_written(target, error) from error
    if free < offer.size_bytes:
        raise SaveError(
            "download-space",
            f"{target.name} was not downloaded",
            f"it has {offer.size_bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are free",
            "Free some space, or choose another folder.",
        )
    if not os.access(folder, os.W_OK):
        raise _not_written(target, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _addresses(offer: Offer, url: str | None, name: str) -> list[str]:
    if url is None:
        return list(offer.urls)
    if not _ADDRESS.match(url):
        raise InputError("download-url", f"{shown(url)} is no address", "", "Give one that begins with https://.")
    return [url + name if url.endswith("/") else url, *offer.urls]


def _progress(done: int, offer: Offer) -> Progress:
    return Progress(
        phase="download",
        fraction=min(done / offer.size_bytes, 1.0),
        message=f"{done / 1e6:.1f} of {offer.size_bytes / 1e6:.1f} MB",
        values={"downloaded_bytes": float(done)},
    )


def _not_written(target: Path, error: OSError) -> LsnetError:
    why = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or "the system refused it").lower()
    return SaveError(
        "download-write", f"{target.name} was not downloaded", why, "Choose another folder, or free space."
    )


def _reason(error: BaseException) -> str:
    """What went wrong, in words; the classes are those of requests, which is not imported for their names."""
    kind = type(error).__name__
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code}"
    told = {
        "ProxyError": "the proxy does not let it through",
        "SSLError": "the certificate of the server could not be verified",
        "ConnectTimeout": "the server does not answer",
        "ReadTimeout": "the server has fallen silent",
        "ChunkedEncodingError": "the connection was cut",
    }
    return told.get(kind, "there is no connection to the server")
