// Azure SDKs against the managed identity endpoint: two variables in the environment, and nothing else of ours.
import { DefaultAzureCredential, ManagedIdentityCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";
import { ManagedIdentityApplication } from "@azure/msal-node";
import { BlobServiceClient } from "@azure/storage-blob";
import assert from "node:assert";

const { SIDECAR, APP_SCOPE: scope, OTHER_SCOPE: refused, CLIENT_ID, AGENT_ID, TENANT_ID, HTTPS } = process.env;
Object.assign(process.env, { IDENTITY_ENDPOINT: `${SIDECAR}/identity/token`, IDENTITY_HEADER: "any" });
const { authorizationHeader } = await (await fetch(`${SIDECAR}/AuthorizationHeaderUnauthenticated/reports`)).json();

const token = await new DefaultAzureCredential().getToken(scope);
assert.equal(`Bearer ${token.token}`, authorizationHeader, "another token than through the other door");
assert.equal((await new ManagedIdentityCredential().getToken(scope)).token, token.token);
const left = (token.expiresOnTimestamp - Date.now()) / 1000;
console.log("@azure/identity: the application's token, expires in an hour:", left > 3000 && left < 3700);

assert.equal((await new ManagedIdentityCredential({ clientId: CLIENT_ID }).getToken(scope)).token, token.token);
assert.notEqual((await new ManagedIdentityCredential({ clientId: AGENT_ID }).getToken(scope)).token, token.token);
console.log("@azure/identity: an agent's own token");

await assert.rejects(new ManagedIdentityCredential().getToken(refused), /Sidecar:IdentityEndpoint:Resources/);
await assert.rejects(new ManagedIdentityCredential({ objectId: TENANT_ID }).getToken(scope), /object_id: expected the identity in client_id/);
console.log("@azure/identity: refusals in their own words");

const application = new ManagedIdentityApplication();
const { accessToken, tokenType } = await application.acquireToken({ resource: scope.replace("/.default", "") });
assert.deepEqual([accessToken, tokenType], [token.token, "Bearer"]);
await assert.rejects(application.acquireToken({ resource: refused.replace("/.default", "") }), /Sidecar:IdentityEndpoint:Resources/);
console.log("@azure/msal-node: the same token, and the same refusal");

// The SDKs call Azure themselves, over https, with the sidecar's token. Both servers verify it.
const credential = new DefaultAzureCredential();
const { containerClient: container } = await new BlobServiceClient(`${HTTPS}/blob`, credential).createContainer("node");
await container.getBlockBlobClient("a//b").upload("content", 7);
assert.equal((await container.getBlockBlobClient("a//b").downloadToBuffer()).toString(), "content");
console.log("@azure/storage-blob: with the token of DefaultAzureCredential");

// The vault is on this machine, so its host is not that of the resource in its challenge.
const vault = new SecretClient(HTTPS, credential, { disableChallengeResourceVerification: true });
assert.match((await vault.getSecret("client-pem")).value, /^-----BEGIN/);
await assert.rejects(vault.getSecret("none"), { statusCode: 404, code: "SecretNotFound" });
console.log("@azure/keyvault-secrets: with the token of DefaultAzureCredential, and its error");
