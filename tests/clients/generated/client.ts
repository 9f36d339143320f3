// Calls a running sidecar with openapi-fetch, by the types that openapi-typescript has made of its OpenAPI document.
// Run by scripts/generated-clients.sh, which has tsc check it first.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./sidecar.js";

type Problem = components["schemas"]["ProblemDetails"];

function variable(name: string): string {
  const value = process.env[name];
  assert(value, name);
  return value;
}
const [baseUrl, token, appScope] = [variable("SIDECAR"), variable("TOKEN"), variable("APP_SCOPE")];

const anonymous = createClient<paths>({ baseUrl });
const alice = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

/** The data of an answer that was good. Its type is the document's. */
function good<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  assert(answer.data !== undefined, `${answer.response.status} ${JSON.stringify(answer.error)}`);
  return answer.data;
}

const validated = good(await alice.GET("/Validate"));
const protocol: "Bearer" | "PoP" = validated.protocol;
assert.equal(protocol, "Bearer");
assert.equal(validated.token, token);
assert(validated.claims["name"]);

const orders = { path: { apiName: "orders" } };
const header: string = good(await alice.GET("/AuthorizationHeader/{apiName}", { params: orders })).authorizationHeader;
assert.match(header, /^Bearer ey/);

const overridden = await anonymous.GET("/AuthorizationHeaderUnauthenticated/{apiName}", {
  params: {
    ...orders,
    query: {
      "optionsOverride.Scopes": [appScope],
      "optionsOverride.RequestAppToken": true,
      "optionsOverride.AcquireTokenOptions.ForceRefresh": true,
    },
  },
});
assert.match(good(overridden).authorizationHeader, /^Bearer ey/);

// @ts-expect-error the document has no such override
void (() => anonymous.GET("/AuthorizationHeaderUnauthenticated/{apiName}", { params: { ...orders, query: { "optionsOverride.Scope": [] } } }));

const called = good(await alice.POST("/DownstreamApi/{apiName}", { params: orders, body: { quantity: 3 } }));
const status: number = called.statusCode;
assert.equal(status, 200);
assert.deepEqual(JSON.parse(JSON.parse(called.content ?? "").body), { quantity: 3 });

const missing = await anonymous.GET("/AuthorizationHeaderUnauthenticated/{apiName}", { params: { path: { apiName: "no-such-api" } } });
const problem: Problem | undefined = missing.error;
assert.equal(problem?.detail, "Downstream API 'no-such-api' not configured");
const refused = await anonymous.GET("/AuthorizationHeaderUnauthenticated/{apiName}", {
  params: { ...orders, query: { "optionsOverride.Scopes": ["api://nobody/.default"] } },
});
assert.deepEqual(refused.error?.extensions?.errorCodes, [500011]);

const form = { headers: { "Content-Type": "application/x-www-form-urlencoded" } };
const issued = good(
  await anonymous.POST("/oauth2/token/{apiName}", {
    params: { path: { apiName: "reports" } },
    body: { grant_type: "client_credentials" },
    ...form,
  }),
);
const seconds: number = issued.expires_in;
assert(seconds > 3000);
assert.equal(issued.scope, appScope);
const exchanged = await anonymous.POST("/oauth2/token/{apiName}", {
  params: orders,
  body: {
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token: "none",
    subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
  },
  ...form,
});
assert.equal(exchanged.error?.error, "invalid_request");

const told = good(await anonymous.POST("/oauth2/introspect", { body: { token }, ...form }));
const active: boolean = told.active;
assert(active && told["oid"]);

const resource = appScope.replace(/\/\.default$/, "");
const identity = (resource: string) =>
  anonymous.GET("/identity/token", {
    params: { query: { resource, "api-version": "2019-08-01" }, header: { "X-IDENTITY-HEADER": "any" } },
  });
assert.equal(good(await identity(resource)).resource, resource);
const denied = await identity("https://vault.example");
assert.match(denied.error && "message" in denied.error ? denied.error.message : "", /Sidecar:IdentityEndpoint:Resources/);

console.log("openapi-typescript with openapi-fetch: every call answered in its type");
