"""azure-storage-blob through /ProxyUnauthenticated, as an anonymous client: the sidecar puts the token in."""

import os

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient

# Blocks and ranges of 64 KiB, so that a megabyte needs many of each.
SMALL = {"max_single_put_size": 65536, "max_block_size": 65536, "max_single_get_size": 65536, "max_chunk_get_size": 65536}
service = BlobServiceClient(os.environ["SIDECAR"] + "/ProxyUnauthenticated/blob", credential=None, **SMALL)
container = service.create_container("reports")

content = os.urandom(1_000_003)
blob = container.get_blob_client("2026/november.bin")
blob.upload_blob(content, max_concurrency=4)
assert blob.download_blob(max_concurrency=4).readall() == content
assert blob.download_blob(offset=500_000, length=17).readall() == content[500_000:500_017]
print("azure-storage-blob: a megabyte in blocks and back in ranges:", blob.get_blob_properties().size)

names = ["a//b", "/leading", "trailing/", "100%", "%2F", "a%252Fb", "two  blanks ", "Zoë/日本", "a+b&c=d;e:f'(g)", "q?#x", "..x/.y."]
for name in names:
    container.upload_blob(name, name.encode())
    assert container.download_blob(name).readall() == name.encode(), name
listed = sorted(item.name for item in container.list_blobs(results_per_page=3))
assert listed == sorted([*names, "2026/november.bin"]), listed
print("azure-storage-blob: names arrive as they are:", len(names))

for refused, call, code in (
    (ResourceNotFoundError, lambda: container.download_blob("none"), "BlobNotFound"),
    (ResourceExistsError, lambda: container.upload_blob("a//b", b""), "BlobAlreadyExists"),
):
    try:
        call()
        raise SystemExit(f"{code} was expected")
    except refused as error:
        assert error.error_code == code, error
container.delete_blob("a//b")
assert not container.get_blob_client("a//b").exists()
print("azure-storage-blob: errors of the service in its own words")
