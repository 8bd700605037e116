"""Pushes a file as an OCI artifact with oras-py, and what refers to it the way clients do for registries without the
referrers API: push_artifact.py TARGET FILE:TYPE CONFIG_TYPE [SUBJECT_JSON]. Prints the artifact's digest."""

import json
import sys

import oras.client
import oras.oci

target, file, config_type, *rest = sys.argv[1:]
host, name = target.split("/", 1)
repository = name.rsplit(":", 1)[0]
client = oras.client.OrasClient(hostname=host, insecure=True)
remote = getattr(client, "remote", client)
subject = json.loads(rest[0]) if rest else None
with open("config.json", "w") as config:
    config.write("{}")
answer = client.push(
    target=target,
    files=[file],
    manifest_config="config.json:" + config_type,
    manifest_annotations={"org.example.made-by": "oras-py"},
    subject=oras.oci.Subject(**subject) if subject else None,
    disable_path_validation=True,
    quiet=True,
)
digest = answer.headers["Docker-Content-Digest"]
if subject:
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    index_type = "application/vnd.oci.image.index.v1+json"
    base = f"http://{host}/v2/{repository}/manifests/"
    session = remote.session
    size = len(session.get(base + digest, headers={"Accept": manifest_type}).content)
    descriptor = {"mediaType": manifest_type, "digest": digest, "size": size, "artifactType": config_type}
    tag = base + subject["digest"].replace(":", "-")
    held = session.get(tag, headers={"Accept": index_type})
    index = held.json() if held.ok else {"schemaVersion": 2, "mediaType": index_type, "manifests": []}
    index["manifests"].append(descriptor)
    session.put(tag, headers={"Content-Type": index_type}, data=json.dumps(index)).raise_for_status()
print(digest)
