"""Writes a PKCS#12 file again as BER: no lengths, and every octet string and the encrypted content in pieces of 1000 bytes."""
import sys

source, target = sys.argv[1:]


def split(data):
    tag, first = data[0], data[1]
    count = first & 0x7F if first & 0x80 else 0
    length = int.from_bytes(data[2 : 2 + count], "big") if count else first
    start = 2 + count
    return tag, data[start : start + length], data[start + length :]


def element(tag, content):
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def ber(data, safe):
    out = b""
    while data:
        tag, content, data = split(data)
        if tag == 4 and content == safe[0]:
            content = safe[1]
        if tag in (4, 0x80):
            pieces = [element(4, content[at : at + 1000]) for at in range(0, len(content), 1000)]
            out += bytes([0x24 if tag == 4 else 0xA0, 0x80]) + b"".join(pieces) + b"\0\0"
        elif tag & 0x20:
            out += bytes([tag, 0x80]) + ber(content, safe) + b"\0\0"
        else:
            out += element(tag, content)
    return out


# A MAC would cover the safe's encoding, so the source is a file without one.
file = open(source, "rb").read()
_, pfx, _ = split(file)
_, version, rest = split(pfx)
_, info, _ = split(rest)
_, kind, rest = split(info)
_, explicit, _ = split(rest)
_, safe, _ = split(explicit)
open(target, "wb").write(ber(file, (safe, ber(safe, (None, None)))))
