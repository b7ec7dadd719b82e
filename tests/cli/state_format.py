"""State files, read and forged by one who knows no more than the description in rehyat/io/state_file.hpp."""
import struct

import numpy as np


def remainder(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (0xC96C5795D7870F42 if byte & 1 else 0)
    return byte


REMAINDERS = [remainder(byte) for byte in range(256)]


def crc64(data):
    """CRC-64/XZ."""
    crc = 2**64 - 1
    for byte in data:
        crc = crc >> 8 ^ REMAINDERS[(crc ^ byte) & 255]
    return crc ^ 2**64 - 1


class StateFile:
    """The first entry of a file without given features."""

    FIELDS = ("magic byte_order version length entries tail_type schedule heads kv_heads head_dim value_dim "
              "feature_dim tokens_per_frame chunk_frames overlap_frames separate_denominator stabilizer scale epsilon "
              "floor phi_q phi_k").split()

    def __init__(self, data):
        self.data = data
        vars(self).update(zip(self.FIELDS, struct.unpack("<8sIIQqIIqqqqqqqqIIdffQQ", data[:144])))
        self.checksum, = struct.unpack("<Q", data[-8:])
        self.frames_seen, self.finished = struct.unpack("<qq", data[144:160])
        self.at = 160
        sums = [[(self.take(self.feature_dim, self.value_dim), self.take(self.feature_dim)) for _ in ("hi", "lo")]
                for _ in range(self.kv_heads)]
        self.a, self.z = (np.array([hi[i].astype(float) + lo[i] for hi, lo in sums]) for i in (0, 1))
        tail = self.kv_heads, self.overlap_frames * self.tokens_per_frame
        self.k, self.v = self.take(*tail, self.head_dim), self.take(*tail, self.value_dim)

    def take(self, *shape):
        count = int(np.prod(shape))
        array = np.frombuffer(self.data, "<f4", count, self.at).reshape(shape)
        self.at += 4 * count
        return array


def forged(data, offset, format, value):
    """The file with another value, and the checksum to match."""
    data = bytearray(data)
    struct.pack_into(format, data, offset, value)
    data[-8:] = struct.pack("<Q", crc64(data[:-8]))
    return bytes(data)
