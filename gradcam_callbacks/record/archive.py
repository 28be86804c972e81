"""The arrays of an .npz file, none of which is unpacked before its header has been judged."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcam_callbacks.arrays import Array

# NumPy reads no header that is longer than 10,000 bytes.
_HEADER = 12_000
_PIECE = 1 << 20
_ENCRYPTED = 1


class UnfitError(ValueError):
    """What was read is not what it should be; the message says so in our words."""


@dataclass(frozen=True)
class Header:
    """What a member says of itself before it is unpacked.

    Attributes:
        dtype: of its numbers.
        shape: of its array.
        is_fortran: whether the first axis runs fastest.
        start: where its numbers begin, in bytes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool
    start: int

    @property
    def nbytes(self) -> int:
        """How much memory the array takes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An .npz file in memory.

    Attributes:
        members: the names of its arrays.
    """

    def __init__(self, content: bytes) -> None:
        """Reads the list of the members, and none of them.

        Raises:
            Exception: whatever zipfile raises at damaged bytes.
        """
        self._zip = zipfile.ZipFile(io.BytesIO(content))
        self._infos: Mapping[str, zipfile.ZipInfo] = {
            info.filename.removesuffix(".npy"): info for info in self._zip.infolist()
        }
        self.members = frozenset(self._infos)

    def header(self, name: str) -> Header:
        """What an array says of itself; its first 12 KB are unpacked.

        Raises:
            UnfitError: if it is packed in a way that could take any amount of memory, or could hold code.
            Exception: whatever zipfile, zlib and NumPy raise at damaged bytes.
        """
        info = self._infos[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & _ENCRYPTED:
            raise UnfitError(f"its array '{name}' is packed in a way that NumPy does not use")
        with self._zip.open(info) as stream:
            start = io.BytesIO(stream.read(_HEADER))
        version = np.lib.format.read_magic(start)
        if version == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(start)
        elif version == (2, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(start)
        else:
            raise UnfitError(f"its array '{name}' has a header of another version")
        if dtype.hasobject or dtype.kind not in "biufU" or not dtype.itemsize:
            raise UnfitError(f"its array '{name}' holds neither numbers nor texts: they are not read (dtype {dtype})")
        found = Header(dtype, shape, is_fortran, start.tell())
        if any(side < 0 for side in shape) or info.file_size != found.start + found.nbytes:
            raise UnfitError(f"its array '{name}' is longer or shorter than its header says")
        return found

    def read(self, name: str, header: Header) -> Array:
        """An array, as its header says; its check sum is compared.

        Raises:
            Exception: whatever zipfile and zlib raise at damaged bytes.
        """
        buffer = np.empty(header.nbytes, np.uint8)
        with self._zip.open(self._infos[name]) as stream:
            stream.read(header.start)
            for place in range(0, len(buffer), _PIECE):
                piece = stream.read(min(_PIECE, len(buffer) - place))
                buffer[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
                if len(piece) < min(_PIECE, len(buffer) - place):
                    raise UnfitError(f"its array '{name}' ends early")
        array = buffer.view(header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")
        return array.astype(header.dtype.newbyteorder("="), copy=False)
