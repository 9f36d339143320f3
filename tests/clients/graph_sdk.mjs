// Microsoft's Graph client for JavaScript through the pass-through.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Client, GraphError } from "@microsoft/microsoft-graph-client";

const { SIDECAR, TOKEN } = process.env;
const { version } = JSON.parse(readFileSync(new URL("node_modules/@microsoft/microsoft-graph-client/package.json", import.meta.url)));
console.log("version: microsoft-graph-client", version);

// Over http the client sends no token of its own and removes `Authorization`, but not `authorization`.
const client = (route, headers = {}) =>
  Client.init({ baseUrl: `${SIDECAR}/${route}/graph/`, authProvider: (done) => done(null, "unused"), fetchOptions: { headers } });
const graph = client("ProxyUnauthenticated");

const page = await graph.api("/users").select("id,userPrincipalName").top(3).get();
assert.deepEqual(Object.keys(page.value[0]), ["id", "userPrincipalName"]);
assert.equal(page.value.length, 3);
const one = await graph.api(`/users/${page.value[1].id}`).get();
assert.equal(one.userPrincipalName, page.value[1].userPrincipalName);
const me = await client("Proxy", { authorization: `Bearer ${TOKEN}` }).api("/me").get();
assert.equal(me.userPrincipalName, "alice@contoso.onmicrosoft.com");
console.log("microsoft-graph-client: a page, a user, and the caller");

// As it stands the link leads to Graph itself, where no token is added.
const names = [];
for (let next = page; next; ) {
  next.value.forEach((user) => names.push(user.userPrincipalName));
  const link = next["@odata.nextLink"];
  next = link && (await graph.api(link.replace("https://graph.microsoft.com/v1.0", "")).get());
}
assert.equal(new Set(names).size, 7);
console.log("microsoft-graph-client: every page, with the API's address cut off the link");

await assert.rejects(graph.api("/users/nobody").get(), (error) => error instanceof GraphError && error.code === "Request_ResourceNotFound");
await assert.rejects(
  client("Proxy", { authorization: "Bearer none" }).api("/me").get(),
  (error) => error instanceof GraphError && error.statusCode === 401,
);
console.log("microsoft-graph-client: errors of the API and of the sidecar");
