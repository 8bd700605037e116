"""Many small images in a layout, as the tags of one repository."""

import gzip
import hashlib
import json

from .images import ARCHITECTURE, END, MEDIA_TYPE, _archive


def _described(data, media_type):
    return {"mediaType": MEDIA_TYPE + media_type, "digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data)}


def images(count):
    """Images of two layers, the first of which they share: each as its blobs, the manifest last, and its descriptor."""
    shared = _archive("shared", bytes(range(256)) * 64) + END
    for at in range(count):
        own = _archive(f"own-{at}", str(at).encode() * 100) + END
        layers = [gzip.compress(tar, mtime=0) for tar in (shared, own)]
        rootfs = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in (shared, own)]}
        config = json.dumps({"architecture": ARCHITECTURE, "os": "linux", "config": {}, "rootfs": rootfs}).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE + "manifest.v1+json",
            "config": _described(config, "config.v1+json"),
            "layers": [_described(layer, "layer.v1.tar+gzip") for layer in layers],
        }
        manifest = json.dumps(manifest).encode()
        yield [*layers, config, manifest], _described(manifest, "manifest.v1+json")


def write_layout(folder, count, repository="crowd"):
    """A layout that names them all, as the tags of a repository."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    entries = []
    for at, (parts, descriptor) in enumerate(images(count)):
        for part in parts:
            (blobs / hashlib.sha256(part).hexdigest()).write_bytes(part)
        name = f"crowd.example/{repository}:v{at}"
        annotations = {"org.opencontainers.image.ref.name": f"v{at}", "io.containerd.image.name": name}
        entries.append({**descriptor, "annotations": annotations})
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
