"""Second readers and writers of the formats of gauge files, in plain Python from their descriptions alone."""

import struct
import zlib

GAUGE = {64: "d", 32: "f"}


def plain(links):
    """{(x, y, z, t, mu): rows of complex numbers} of links `(4, x, y, z, t, N, N)`."""
    _, *sites, _, _ = links.shape
    return {(*site, mu): links[(mu, *site)].tolist() for site in each_site(sites) for mu in range(4)}


def each_site(sites):
    nx, ny, nz, nt = sites
    return [(x, y, z, t) for t in range(nt) for z in range(nz) for y in range(ny) for x in range(nx)]


def times(a, b):
    return [[sum(a[i][k] * b[k][j] for k in range(len(a))) for j in range(len(a))] for i in range(len(a))]


def adjoint(a):
    return [[a[j][i].conjugate() for j in range(len(a))] for i in range(len(a))]


def trace(a):
    return sum(a[i][i] for i in range(len(a))).real / len(a)


def averages(links, sites):
    """Re tr P / N and Re tr U / N."""
    plaquettes = []
    for site in each_site(sites):
        for mu in range(4):
            for nu in range(mu):
                first, second = list(site), list(site)
                first[mu] = (site[mu] + 1) % sites[mu]
                second[nu] = (site[nu] + 1) % sites[nu]
                there = times(links[(*site, mu)], links[(*first, nu)])
                back = times(links[(*site, nu)], links[(*second, mu)])
                plaquettes.append(trace(times(there, adjoint(back))))
    traces = [trace(link) for link in links.values()]
    return sum(plaquettes) / len(plaquettes), sum(traces) / len(traces)


def pack(links, sites, order, bits, rows):
    """The data of a file, site by site."""
    for site in each_site(sites):
        numbers = [
            part
            for mu in range(4)
            for row in links[(*site, mu)][:rows]
            for number in row
            for part in (number.real, number.imag)
        ]
        yield struct.pack(f"{order}{len(numbers)}{GAUGE[bits]}", *numbers)


def unpack(data, sites, order, bits, rows, n):
    numbers = struct.unpack(f"{order}{len(data) * 8 // bits}{GAUGE[bits]}", data)
    pairs = iter(zip(numbers[::2], numbers[1::2], strict=True))
    return {
        (*site, mu): [[complex(*next(pairs)) for _ in range(n)] for _ in range(rows)]
        for site in each_site(sites)
        for mu in range(4)
    }


def word_sum(data, order):
    return sum(struct.unpack(f"{order}{len(data) // 4}I", data)) % 2**32


def site_sums(data, volume):
    suma = sumb = 0
    size = len(data) // volume
    for k in range(volume):
        crc = zlib.crc32(data[k * size : (k + 1) * size])
        suma ^= (crc << k % 29 | crc >> (32 - k % 29)) % 2**32
        sumb ^= (crc << k % 31 | crc >> (32 - k % 31)) % 2**32
    return suma, sumb


def nersc_header(content):
    """The pairs of a header, and the data."""
    head, data = content.split(b"END_HEADER\n", 1)
    lines = head.decode().splitlines()
    assert lines[0] == "BEGIN_HEADER"
    return dict(line.split(" = ", 1) for line in lines[1:]), data


def nersc_file(links, sites, order, bits, datatype, **changes):
    n = len(next(iter(links.values())))
    data = b"".join(pack(links, sites, order, bits, n if datatype.endswith(f"{n}x{n}") else n - 1))
    plaquette, link_trace = averages(links, sites)
    header = {
        "DATATYPE": datatype,
        **{f"DIMENSION_{k + 1}": sites[k] for k in range(4)},
        "CHECKSUM": f"{word_sum(data, order):x}",
        "LINK_TRACE": f"{link_trace:.9f}",
        "PLAQUETTE": f"{plaquette:.9f}",
        "FLOATING_POINT": f"IEEE{bits}{'BIG' if order == '>' else 'LITTLE'}",
    } | changes
    lines = [f"{name} = {value}\n" for name, value in header.items() if value is not None]
    return ("BEGIN_HEADER\n" + "".join(lines) + "END_HEADER\n").encode() + data


def lime_records(content):
    """Type, data, first and last of a message, of every record."""
    records = []
    while content:
        magic, version, flags, length = struct.unpack(">IHHQ", content[:16])
        assert (magic, version) == (0x456789AB, 1)
        kind = content[16:144].rstrip(b"\0").decode()
        records.append((kind, content[144 : 144 + length], bool(flags >> 15), bool(flags >> 14 & 1)))
        padded = (length + 7) // 8 * 8
        assert content[144 + length : 144 + padded] == bytes(padded - length)
        content = content[144 + padded :]
    return records


def lime_file(records):
    """One message of records: type and data."""
    out = b""
    for k, (kind, data) in enumerate(records):
        flags = (k == 0) << 15 | (k == len(records) - 1) << 14
        out += struct.pack(">IHHQ", 0x456789AB, 1, flags, len(data)) + kind.encode().ljust(128, b"\0")
        out += data + bytes(-len(data) % 8)
    return out


def ildg_records(links, sites, bits):
    """The records of a minimal file: format, data, checksum."""
    n = len(next(iter(links.values())))
    data = b"".join(pack(links, sites, ">", bits, n))
    extents = "".join(f"<l{axis}> {extent} </l{axis}>\n" for axis, extent in zip("xyzt", sites, strict=True))
    suma, sumb = site_sums(data, sites[0] * sites[1] * sites[2] * sites[3])
    return {
        "ildg-format": (
            '<?xml version="1.0"?>\n<i:ildgFormat xmlns:i="http://www.lqcd.org/ildg"><i:version>1.0</i:version>'
            f"<i:field>su{n}gauge</i:field><i:precision>{bits}</i:precision>"
            + extents.replace("</", "</i:").replace("<l", "<i:l")
            + "</i:ildgFormat>"
        ).encode(),
        "ildg-binary-data": data,
        "scidac-checksum": (
            f"<scidacChecksum><version>1.0</version><suma>{suma:x}</suma><sumb>{sumb:x}</sumb></scidacChecksum>"
        ).encode(),
    }


def milc_file(links, sites, order):
    data = b"".join(pack(links, sites, order, 32, 3))
    sum29 = sum31 = 0
    for k, word in enumerate(struct.unpack(f"{order}{len(data) // 4}I", data)):
        sum29 ^= (word << k % 29 | word >> (32 - k % 29)) % 2**32
        sum31 ^= (word << k % 31 | word >> (32 - k % 31)) % 2**32
    stamp = b"Thu Jan  1 00:00:00 1970".ljust(64, b"\0")
    return struct.pack(f"{order}5i64si2I", 20103, *sites, stamp, 0, sum29, sum31) + data


def private_record(bits, n, count):
    letter, size = {32: ("F", 8), 64: ("D", 16)}[bits]
    return (
        '<?xml version="1.0" encoding="UTF-8"?><scidacRecord><version>1.1</version><recordtype>0</recordtype>'
        f"<datatype>Lattice</datatype><precision>{letter}</precision><colors>{n}</colors>"
        f"<typesize>{n * n * size}</typesize><datacount>{count}</datacount></scidacRecord>\0"
    ).encode()


def scidac_records(links, sites, bits):
    """Records without ildg-format; the first one is that of the file."""
    records = ildg_records(links, sites, bits)
    n = len(next(iter(links.values())))
    dims = "".join(f"{extent} " for extent in sites)
    file = (
        f"<scidacFile><version>1.1</version><spacetime>4</spacetime><dims>{dims}</dims><volfmt>0</volfmt></scidacFile>"
    )
    return [
        ("scidac-private-file-xml", file.encode()),
        ("scidac-private-record-xml", private_record(bits, n, 4)),
        ("scidac-record-xml", b"a sentence\0"),
        ("scidac-binary-data", records["ildg-binary-data"]),
        ("scidac-checksum", records["scidac-checksum"]),
    ]


def scidac_file(links, sites, bits):
    return lime_file(scidac_records(links, sites, bits))


def numbers(order, link):
    parts = [part for row in link for number in row for part in (number.real, number.imag)]
    return struct.pack(f"{order}{len(parts)}d", *parts)


def openqcd_file(links, sites):
    nx, ny, nz, nt = sites
    out = struct.pack("<4id", nt, nx, ny, nz, 3 * averages(links, sites)[0])
    for t in range(nt):
        for x in range(nx):
            for y in range(ny):
                for z in range(nz):
                    if (t + x + y + z) % 2 == 1:
                        for mu in (3, 0, 1, 2):
                            behind = [x, y, z, t]
                            behind[mu] = (behind[mu] - 1) % sites[mu]
                            out += numbers("<", links[x, y, z, t, mu]) + numbers("<", links[*behind, mu])
    return out


def ddalphaamg_file(links, sites):
    nx, ny, nz, nt = sites
    out = struct.pack("<4id", nt, nz, ny, nx, 3 * averages(links, sites)[0])
    return out + b"".join(numbers("<", links[*site, mu]) for site in each_site(sites) for mu in (3, 2, 1, 0))


def hirep_file(links, sites, quaternions=False):
    nx, ny, nz, nt = sites
    n = len(next(iter(links.values())))
    out = struct.pack(">5id", n, nt, nx, ny, nz, averages(links, sites)[0])
    order = ((x, y, z, t) for t in range(nt) for x in range(nx) for y in range(ny) for z in range(nz))
    for site in order:
        for mu in (3, 0, 1, 2):
            link = links[*site, mu]
            a, b = link[0][:2]
            out += struct.pack(">4d", a.real, b.imag, -b.real, a.imag) if quaternions else numbers(">", link)
    return out
