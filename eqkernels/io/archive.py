"""Zip archives that are checked whole before anything in them is used.

Members are stored uncompressed, so that no archive holds more than its size. The last 64 bytes, in the comment of the
archive, are the SHA-256 of all bytes before them. They find damage, not forgery: those who use what is in an archive
have to check it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from typing import IO, Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

HEADER, SCHEMA = "header.json", "schema.json"
_ARRAY = re.compile(r"\d+\.npy")
_SEAL, _DIGITS = b"eqkernels sha256 ", 64
_CHUNK = 2**20
# The header is a page of text; whatever is longer is none.
_LARGEST_HEADER = 2**20
_PICKLE = "a pickle, as joblib and pickle write it: loading one can run any code, load only your own, with joblib.load"
_COMPRESSED = "a compressed file, as joblib writes it if asked to: load only your own, with joblib.load"
# What files that users mistake for saved models begin with.
_KINDS = {
    **{b"\x80" + bytes([protocol]): _PICKLE for protocol in range(2, 6)},
    **dict.fromkeys((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x04\x22\x4d\x18"), _COMPRESSED),
    **{b"x" + level: _COMPRESSED for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")},
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "an array in numpy's format",
}


def write_archive(path: str | os.PathLike[str], members: Iterable[tuple[str, int, IO[bytes]]]) -> None:
    """Write an archive beside its final place and move it there when it is complete.

    Parameters
    ----------
    path : path-like
        A file that is there is replaced; a symbolic link is followed.
    members : iterable of (str, int, binary file)
        Name, size and content of each.
    """
    path = os.path.realpath(path)
    part = f"{path}.{uuid.uuid4().hex}.part"
    try:
        with open(part, "xb+") as file:
            with ZipFile(file, "w", ZIP_STORED) as archive:
                archive.comment = _SEAL + _DIGITS * b"0"
                for name, size, content in members:
                    info = ZipInfo(name)
                    info.file_size = size
                    with archive.open(info, "w") as member:
                        shutil.copyfileobj(content, member, _CHUNK)
            digest = _digest(file, file.seek(0, os.SEEK_END) - _DIGITS)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.remove(part)
        raise


@contextmanager
def checked_archive(path: str | os.PathLike[str]) -> Iterator[ZipFile]:
    """Open an archive that was written here, undamaged, with members of announced sizes.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    ZipFile
        Its ``fp`` is the open file.

    Raises
    ------
    ValueError
        The message says what the file is, or what is wrong with it.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        _check_seal(file, size)
        with ZipFile(file) as archive:
            _check_members(archive, size)
            yield archive


def _digest(file, size):
    """SHA-256 of the first bytes of a file, in hexadecimal, and leave the file behind them."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0:
        chunk = file.read(min(_CHUNK, size))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest().encode()


def _check_seal(file, size):
    tail = len(_SEAL) + _DIGITS
    file.seek(max(size - tail, 0))
    if not file.read().startswith(_SEAL):
        raise ValueError(f"it is {_kind(file, size)}")
    if _digest(file, size - _DIGITS) != file.read():
        raise ValueError("it is damaged, or was changed after it was saved: its checksum is not that of its content")


def _kind(file, size):
    """Say what a file is that is no sealed archive."""
    if size == 0:
        return "empty"
    file.seek(0)
    start = file.read(8)
    for magic, kind in _KINDS.items():
        if start.startswith(magic):
            return kind
    if not start.startswith(b"PK"):
        return "no file that save_model wrote"
    try:
        with ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # of a damaged archive zipfile raises anything
        return "truncated or damaged: an archive without its end"
    if HEADER in names:
        return "truncated or damaged: its checksum is missing"
    if SCHEMA in names:
        return "a file of skops, without the header that save_model writes: load it with skops.io.load"
    if all(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays (npz)"
    return f"another kind of zip archive, of {', '.join(names[:3])}, ..."


def _check_members(archive, size):
    infos = archive.infolist()
    names = [info.filename for info in infos]
    unknown = [name for name in names if name not in (HEADER, SCHEMA) and not _ARRAY.fullmatch(name)]
    missing = [name for name in (HEADER, SCHEMA) if name not in names]
    if unknown or missing or len(set(names)) < len(names):
        raise ValueError(f"its members are not those of a saved model: {', '.join((unknown or missing or names)[:5])}")
    announced = sum(info.file_size for info in infos)
    if announced > size:
        raise ValueError(f"it announces {announced} bytes of content, but has only {size} bytes: it was tampered with")
    for info in infos:
        if info.compress_type != ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise ValueError(f"{info.filename} is compressed or encrypted, which save_model does not do")
        if info.filename == HEADER and info.file_size > _LARGEST_HEADER:
            raise ValueError(f"its header has {info.file_size} bytes, more than any that save_model writes")
        if _ARRAY.fullmatch(info.filename):
            _check_array(archive, info)


def _check_array(archive: ZipFile, info: ZipInfo) -> None:
    """Compare the size that an array announces with the bytes that are there."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read: Any = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"{info.filename} is an array in version {version} of numpy's format, which is not known")
        shape, _, dtype = read(file)
        held = info.file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{info.filename} is an array of Python objects, which are not loaded")
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != held:
        raise ValueError(f"{info.filename} announces an array of shape {shape} and type {dtype}, but has {held} bytes")
