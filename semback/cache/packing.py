"""How recordings are packed: gzip if the file's name ends in .gz, zstd if in .zst, else not at all.

`recording` imports this where it opens a file, since zstandard takes time to load.
"""

import gzip
import io
import zlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import zstandard

ERRORS = (OSError, EOFError, ValueError, TypeError, zlib.error, zstandard.ZstdError)


def unpacked(file: io.BufferedReader, suffix: str) -> AbstractContextManager[Any]:
    """A file to read the lines of a recording from. EOFError where a packed one has no end."""
    if suffix in (".gz", ".zst") and not file.peek(1):
        raise EOFError("it is empty")
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=file)
    if suffix == ".zst":
        _check_end(file)
        frames = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return io.BufferedReader(frames)
    return file


def packed(file: io.BufferedWriter, suffix: str) -> AbstractContextManager[Any]:
    """A file to write the lines of a recording to, which packs them always in the same way."""
    if suffix == ".gz":
        return gzip.GzipFile("", "wb", 9, file, mtime=0)
    if suffix == ".zst":  # a window of 32 MiB finds what lines that are far apart have in common
        options = {"window_log": 25, "enable_ldm": True, "write_checksum": True}
        parameters = zstandard.ZstdCompressionParameters.from_level(19, **options)
        return zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file)
    return nullcontext(file)


def _check_end(file: io.BufferedReader) -> None:
    """EOFError where the last zstd frame has no end, which zstandard's reader does not notice."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    while data := file.read(2**12):  # which unpack to at most 130 MB
        while data:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            frame.decompress(data)
            data = frame.unused_data
    if not frame.eof:
        raise EOFError("its end is missing")
    file.seek(0)
