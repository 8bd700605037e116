"""The images that are measured: OCI layouts of the files of Debian packages, kept in the target folder.

Packages are what image layers are mostly made of: programs, libraries, text. Their files compress as layers do, which random
bytes do not.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
MEDIA_TYPE = "application/vnd.oci.image."
# A layer each; the last is the large one that most images have. Together they are 390 MB, and 1.06 GB uncompressed.
LARGE = [
    ["busybox-static"],
    ["libicu72"],
    ["libreoffice-core"],
    ["openjdk-17-jre-headless"],
    ["firefox-esr"],
    ["containerd", "chromium"],
]
SMALL = [["busybox-static"], ["libicu72"], ["golang-1.19-src"]]
# What a tar archive ends with.
END = bytes(1024)
BLOCK = 1 << 20
# What one of many small layers holds uncompressed; it compresses to about 23 KB.
SLICE = 160 << 10


@dataclass
class Image:
    """An image in a layout of its own."""

    name: str
    folder: Path
    compression: str
    layers: list = field(default_factory=list)
    config: dict = field(default_factory=dict)
    uncompressed: int = 0

    @property
    def blobs(self):
        return [*self.layers, self.config]

    @property
    def size(self):
        return sum(blob["size"] for blob in self.blobs)

    def path(self, blob):
        return self.folder / "blobs" / "sha256" / blob["digest"].removeprefix("sha256:")


class Images:
    """Makes images once and finds them again."""

    def __init__(self, folder, small):
        self.folder = folder
        self.packages = SMALL if small else LARGE
        # Others than these are images of their own.
        self.names = hashlib.sha256(json.dumps(self.packages).encode()).hexdigest()[:8]

    def six(self, compression="gzip"):
        """Six layers of one or two packages each."""
        def layers():
            return ([stream(self._package(name)) for name in names] for names in self.packages)

        return self._image(f"packages-{compression}", compression, layers)

    def one(self, compression="gzip"):
        """All packages in one layer."""
        def layers():
            return [[stream(self._package(name)) for names in self.packages for name in names]]

        return self._image(f"one-{compression}", compression, layers)

    def many(self, count=120):
        """Many small layers, each a file of source text."""
        def parts():
            text = stream(self._package("golang-1.19-src")).read()
            return ([_Bytes(_archive(f"part-{at}", text[at * SLICE : (at + 1) * SLICE]))] for at in range(count))

        return self._image("many", "gzip", parts)

    def zeros(self, mebibytes, compression):
        """One layer of a file that is mostly zeros with some noise in each MiB: large on disk, quick to make."""
        return self._image(f"zeros-{mebibytes}-{compression}", compression, lambda: [[_Zeros(mebibytes)]])

    def _package(self, name):
        """The archive of a package."""
        folder = self.folder / name
        if not any(folder.glob("*.deb")):
            folder.mkdir(parents=True, exist_ok=True)
            command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name]
            subprocess.run(command, cwd=folder, check=True)
        return next(folder.glob("*.deb"))

    def _image(self, name, compression, layers):
        folder = self.folder / "images" / self.names / name
        if not (folder / "oci-layout").exists():
            shutil.rmtree(folder, ignore_errors=True)
            print(f"making the image {name} …", file=sys.stderr, flush=True)
            _write_layout(folder, layers(), compression)
        image = Image(name, folder, compression)
        index = json.loads((folder / "index.json").read_text())
        manifest = json.loads(image.path(index["manifests"][0]).read_text())
        image.layers, image.config = manifest["layers"], manifest["config"]
        image.uncompressed = int(index["annotations"]["uncompressed"])
        return image


def stream(package):
    """The tar stream of a package's files, its end included: nobody here unpacks what follows it in the same layer."""
    return subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE).stdout


class _Bytes:
    def __init__(self, data):
        self.data = data

    def read(self, size):
        data, self.data = self.data[:size], self.data[size:]
        return data


class _Zeros:
    """A tar file's content: zeros, and 4 KiB in each MiB that do not compress and differ from one MiB to the next."""

    def __init__(self, mebibytes):
        self.pieces = iter([_header("zeros", mebibytes << 20)])
        self.left = mebibytes
        self.noise = b"noise"

    def read(self, _):
        for piece in self.pieces:
            return piece
        if self.left == 0:
            return b""
        self.left -= 1
        blocks = []
        for _ in range(64):
            self.noise = hashlib.sha512(self.noise).digest()
            blocks.append(self.noise)
        noise = b"".join(blocks)
        return noise + bytes((1 << 20) - len(noise))


def _header(name, size):
    fields = [name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0"]
    # Sizes beyond eight octal GiB are written in base 256.
    octal = f"{size:011o}\0".encode() if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    fields += [octal, b"00000000000\0", b" " * 8, b"0", bytes(100), b"ustar\x0000", bytes(247)]
    header = bytearray(b"".join(fields).ljust(512, b"\0")[:512])
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


def _archive(name, data):
    return _header(name, len(data)) + data + bytes(-len(data) % 512)


class _Plain:
    """What is written to it, in a file whose zeros take no room."""

    def __init__(self, target):
        self.stdin, self.target = self, target

    def write(self, data):
        self.target.write(data.rstrip(b"\0"))
        self.target.truncate(self.target.seek(len(data) - len(data.rstrip(b"\0")), os.SEEK_CUR))

    def close(self):
        self.target.flush()

    def wait(self):
        return 0


def _compressor(compression, target):
    """A process that compresses what is written to it into a file."""
    if compression == "none":
        return _Plain(target)
    command = {
        "gzip": ["gzip", "-6", "-n", "-c"],
        # A window of 8 MiB, which is what layers that were compressed well have.
        "zstd": ["zstd", "-q", "-c", "-3", "--long=23"],
    }[compression]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=target)


def _write_layer(folder, sources, compression):
    """Compresses tar streams into one layer; gives its descriptor, its diff ID and its size uncompressed."""
    temporary = folder / "new"
    hasher, total = hashlib.sha256(), 0
    with temporary.open("wb") as target:
        process = _compressor(compression, target)
        for source in [*sources, _Bytes(END)]:
            while data := source.read(BLOCK):
                hasher.update(data)
                total += len(data)
                process.stdin.write(data)
        process.stdin.close()
        if process.wait() != 0:
            sys.exit(f"{compression} failed")
    with temporary.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    size = temporary.stat().st_size
    temporary.rename(folder / digest)
    media_type = f"{MEDIA_TYPE}layer.v1.tar" + (f"+{compression}" if compression != "none" else "")
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}, f"sha256:{hasher.hexdigest()}", total


def _write_layout(folder, layers, compression):
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    made = [_write_layer(blobs, sources, compression) for sources in layers]

    def put(document, media_type):
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": MEDIA_TYPE + media_type, "digest": f"sha256:{digest}", "size": len(data)}

    rootfs = {"type": "layers", "diff_ids": [diff_id for _, diff_id, _ in made]}
    config = put({"architecture": ARCHITECTURE, "os": "linux", "config": {}, "rootfs": rootfs}, "config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": MEDIA_TYPE + "manifest.v1+json", "config": config}
    descriptor = put({**manifest, "layers": [layer for layer, _, _ in made]}, "manifest.v1+json")
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": "bench", "io.containerd.image.name": "bench.example/bench:bench"}
    uncompressed = {"uncompressed": str(sum(total for _, _, total in made))}
    index = {"schemaVersion": 2, "manifests": [descriptor], "annotations": uncompressed}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
