"""The checksums that FFV1 keeps of every slice, which FFmpeg's decoder passes over in silence.

After RFC 9043, 4.8 and 4.9: a slice ends with its size (3 bytes) and, where the stream has error
correction, with a status byte and a CRC-32 (polynomial 0x04C11DB7, most significant bit first)
that makes the remainder over the whole slice zero.
"""

from __future__ import annotations

import zlib

_FOOTER = 8  # bytes: size, status, checksum
#: zlib's CRC-32 has the same polynomial but takes each byte's bits the other way around.
_MIRRORED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def slices_are_whole(packet: bytes) -> bool:
    """Whether the packet divides into slices whose checksums all hold.

    False also for a stream that keeps none, so the answer for an undamaged packet tells
    whether others can be judged.
    """
    end = len(packet)
    while end > 0:
        if end < _FOOTER:
            return False
        start = end - int.from_bytes(packet[end - 8 : end - 5], "big") - _FOOTER
        if start < 0:
            return False
        # Started from zero and without the final inversion, the remainder itself.
        if zlib.crc32(packet[start:end].translate(_MIRRORED), 0xFFFFFFFF) != 0xFFFFFFFF:
            return False
        end = start
    return True
