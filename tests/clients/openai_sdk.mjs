// OpenAI's SDK for Node through the pass-through.
import assert from "node:assert/strict";
import OpenAI, { AzureOpenAI } from "openai";
import { VERSION } from "openai/version";

const { SIDECAR, TOKEN, CLIENT_ID, AGENT_ID } = process.env;
const messages = [{ role: "user", content: "Where is the ünïcode?" }];
const answer = (who) => `${who} asked: Where is the ünïcode?`;
const alice = "alice@contoso.onmicrosoft.com";

const client = (route, more) => new OpenAI({ baseURL: `${SIDECAR}/${route}/openai/openai/v1`, maxRetries: 0, ...more });
const ask = async (client, model = "gpt-4o") =>
  (await client.chat.completions.create({ model, messages })).choices[0].message.content;

async function read(client, model = "gpt-4o") {
  const pieces = [];
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    const text = chunk.choices[0]?.delta.content;
    if (text) pieces.push([text, performance.now()]);
  }
  return pieces;
}
const text = (pieces) => pieces.map(([text]) => text).join("");

console.log("version: openai for Node", VERSION);
const application = client("ProxyUnauthenticated", { apiKey: "unused" });
assert.equal(await ask(application), answer(CLIENT_ID));
assert.equal(text(await read(application)), answer(CLIENT_ID));
const slow = await read(application, "gpt-4o-slow");
// The API lets a quarter of a second pass before each piece.
assert(slow.at(-1)[1] - slow[0][1] > 600, "the pieces came together");
console.log("openai for Node: whole, and streamed piece by piece");

const user = client("Proxy", { apiKey: TOKEN });
assert.equal(await ask(user), answer(alice));
assert.equal(text(await read(user)), answer(alice));
const agent = client("ProxyUnauthenticated", { apiKey: "unused", defaultHeaders: { "X-Sidecar-Options": `AgentIdentity=${AGENT_ID}` } });
assert.equal(await ask(agent), answer(AGENT_ID));
console.log("openai for Node: for a user, for an agent");

await assert.rejects(ask(application, "no-such-model"), (error) => error instanceof OpenAI.NotFoundError && error.code === "DeploymentNotFound");
await assert.rejects(ask(application, "gpt-4o-busy"), (error) => error instanceof OpenAI.RateLimitError && error.headers.get("retry-after") === "1");
await assert.rejects(
  ask(client("Proxy", { apiKey: "no-token" })),
  (error) => error instanceof OpenAI.AuthenticationError && error.headers.get("x-sidecar-error") === "1",
);
console.log("openai for Node: errors of the API and of the sidecar");

const azure = new AzureOpenAI({ endpoint: `${SIDECAR}/ProxyUnauthenticated/openai`, apiKey: "unused", apiVersion: "2024-10-21", maxRetries: 0 });
assert.equal(await ask(azure), answer(CLIENT_ID));
assert.equal(text(await read(azure)), answer(CLIENT_ID));
await assert.rejects(ask(azure, "no-such-model"), OpenAI.NotFoundError);
const azureUser = new AzureOpenAI({ endpoint: `${SIDECAR}/Proxy/openai`, azureADTokenProvider: async () => TOKEN, apiVersion: "2024-10-21" });
assert.equal(await ask(azureUser), answer(alice));
console.log("AzureOpenAI for Node: whole, streamed, an error, for a user");
