// @azure/storage-blob through /ProxyUnauthenticated, as an anonymous client.
import { AnonymousCredential, BlobServiceClient } from "@azure/storage-blob";
import assert from "node:assert";
import { randomBytes } from "node:crypto";

const service = new BlobServiceClient(`${process.env.SIDECAR}/ProxyUnauthenticated/blob`, new AnonymousCredential());
const container = service.getContainerClient("javascript");
await container.create();

const content = randomBytes(1_000_003);
const blob = container.getBlockBlobClient("2026/november.bin");
await blob.uploadData(content, { blockSize: 65536, maxSingleShotSize: 65536, concurrency: 4 });
assert.deepEqual(await blob.downloadToBuffer(0, undefined, { blockSize: 65536, concurrency: 4 }), content);
assert.deepEqual(await blob.downloadToBuffer(500_000, 17), content.subarray(500_000, 500_017));
console.log("@azure/storage-blob: a megabyte in blocks and back in ranges:", (await blob.getProperties()).contentLength);

const names = ["a//b", "100%", "%2F", "two  blanks ", "Zoë/日本", "a+b&c=d"];
for (const name of names) {
  await container.getBlockBlobClient(name).upload(name, Buffer.byteLength(name));
  assert.equal((await container.getBlockBlobClient(name).downloadToBuffer()).toString(), name);
}
const listed = [];
for await (const item of container.listBlobsFlat()) listed.push(item.name);
assert.deepEqual(listed.sort(), [...names, "2026/november.bin"].sort());
console.log("@azure/storage-blob: names arrive as they are:", names.length);

await assert.rejects(container.getBlobClient("none").download(), { code: "BlobNotFound", statusCode: 404 });
console.log("@azure/storage-blob: errors of the service in its own words");
