// A web API's work with the sidecar: who is calling, and another API on behalf of that user.

const SIDECAR = process.env.SIDECAR ?? "http://127.0.0.1:5000";

class SidecarProblem extends Error {
  constructor(problem) {
    super(`${problem.status} ${problem.detail ?? problem.title}`);
    this.status = problem.status;
    this.extensions = problem.extensions ?? {};
  }
}

async function ask(path, { authorization, query = {}, ...init } = {}) {
  const url = new URL(path, SIDECAR);
  for (const [key, value] of Object.entries(query)) url.searchParams.append(key, value);
  const headers = { ...init.headers, ...(authorization && { Authorization: authorization }) };
  const response = await fetch(url, { ...init, headers, signal: AbortSignal.timeout(30_000) });
  const body = await response.json();
  if (!response.ok) throw new SidecarProblem(body);
  return body;
}

// The claims of whoever sent this `Authorization` header to us.
async function caller(authorization) {
  return (await ask("/Validate", { authorization })).claims;
}

// The user's orders. The sidecar exchanges the user's token for one of that API.
async function orders(authorization) {
  const query = { "optionsOverride.RelativePath": "open?$top=3" };
  const answer = await ask("/DownstreamApi/orders", { authorization, query });
  if (answer.statusCode !== 200) throw new Error(`orders answered ${answer.statusCode}`);
  return JSON.parse(answer.content);
}

// Bytes go through as they are; the method is the one that is used here.
async function upload(authorization, name, body) {
  const query = { "optionsOverride.RelativePath": `files/${name}` };
  const headers = { "Content-Type": "application/octet-stream" };
  const answer = await ask("/DownstreamApi/orders", { authorization, query, method: "PUT", headers, body });
  return answer.statusCode;
}

const authorization = `Bearer ${process.env.TOKEN}`;
console.log("caller:", (await caller(authorization)).preferred_username);
console.log("orders:", (await orders(authorization)).path);
console.log("upload:", await upload(authorization, "a.bin", Uint8Array.from({ length: 256 }, (_, byte) => byte)));
const { authorizationHeader } = await ask("/AuthorizationHeader/orders", { authorization });
console.log("header:", authorizationHeader.split(".")[0] + "...");
await caller("Bearer not-a-token").catch((problem) => console.log("problem:", problem.message));
