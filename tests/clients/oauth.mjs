// oauth4webapi, which holds answers against the standards to the letter.
import * as oauth from "oauth4webapi";

const { SIDECAR, API, TOKEN, SCOPE, APP_SCOPE } = process.env;
const client = { client_id: "any" };
const http = { [oauth.allowInsecureRequests]: true };
const secret = oauth.ClientSecretPost("any");
const server = (name) => ({
  issuer: SIDECAR,
  token_endpoint: `${SIDECAR}/oauth2/token/${name}`,
  introspection_endpoint: `${SIDECAR}/oauth2/introspect`,
});

async function call({ access_token }) {
  const answer = await oauth.protectedResourceRequest(access_token, "GET", new URL(API), undefined, null, http);
  return answer.status;
}

let answer = await oauth.clientCredentialsGrantRequest(server("reports"), client, secret, { scope: APP_SCOPE }, http);
console.log("oauth4webapi, application:", await call(await oauth.processClientCredentialsResponse(server("reports"), client, answer)));

const exchange = {
  subject_token: TOKEN,
  subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
  scope: SCOPE,
};
const grant = "urn:ietf:params:oauth:grant-type:token-exchange";
const asked = (parameters) => oauth.genericTokenEndpointRequest(server("orders"), client, secret, grant, parameters, http);
const told = (answer) => oauth.processGenericTokenEndpointResponse(server("orders"), client, answer);
console.log("oauth4webapi, user:", await call(await told(await asked(exchange))));

answer = await oauth.introspectionRequest(server("orders"), client, secret, TOKEN, http);
console.log("oauth4webapi, introspection:", (await oauth.processIntrospectionResponse(server("orders"), client, answer)).active);

try {
  await told(await asked({ ...exchange, subject_token: "none" }));
} catch (error) {
  console.log("oauth4webapi, error:", error.status, error.error);
}
