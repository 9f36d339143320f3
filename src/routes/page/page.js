"use strict";
const at = (id) => document.getElementById(id);
const element = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const fill = (table, heads, rows) => {
  const line = (cells, name) => {
    const made = element("tr");
    for (const cell of cells) made.append(cell instanceof Node ? cell : element(name, cell));
    return made;
  };
  table.replaceChildren(line(heads, "th"), ...rows.map((row) => line(row, "td")));
};
const doors = (api, { oauth, identity }) => {
  const user = api.whose === "the user";
  const bearer = user ? ' -H "Authorization: Bearer $TOKEN"' : "", open = user ? "" : "Unauthenticated";
  const url = (door) => `${location.origin}/${door}/${encodeURIComponent(api.name)}`;
  const lines = [["A header for calls of your own", `curl${bearer} "${url(`AuthorizationHeader${open}`)}"`]];
  if (api.baseUrl) {
    lines.push(["A call through the sidecar", `curl${bearer} "${url(`DownstreamApi${open}`)}"`]);
    if (api.proxy) lines.push(["The base URL of an SDK", `${url(`Proxy${open}`)}/`]);
  }
  const exchange = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange" +
    ' -d subject_token_type=urn:ietf:params:oauth:token-type:access_token -d "subject_token=$TOKEN"';
  if (oauth) lines.push(["The token URL of a tool", `curl "${url("oauth2/token")}" -d ${user ? exchange : "grant_type=client_credentials"}`]);
  if (identity && api.whose === "the application") lines.push(["The environment of an Azure SDK",
    `export IDENTITY_ENDPOINT=${location.origin}/identity/token IDENTITY_HEADER=any`]);
  return lines;
};
const shown = {};
// What has not changed stays as it is, for someone may be copying from it.
const update = (name, state, draw) => {
  const text = JSON.stringify(state);
  if (shown[name] !== text) draw(state);
  shown[name] = text;
};
const show = (state) => {
  at("state").textContent = `${state.version}, ${state.health}`;
  at("state").className = state.health === "Healthy" ? "good" : "bad";
  const credential = ({ type, expires, usable }) =>
    `${type}${expires ? `, until ${expires}` : ""}${usable ? "" : ", cannot be used: the log says why"}`;
  update("registrations", state.registrations, (all) =>
    fill(at("registrations"), ["Section", "Authority", "Client", "Credentials"], all.map((one) =>
      [one.section, one.authority, one.clientId, element("td", one.credentials.map(credential).join("; ") || "none",
        one.credentials.every(({ usable }) => usable) ? "" : "bad")])));
  update("apis", state.apis, (all) => at("apis").replaceChildren(...all.map((api) => {
    const made = element("details"), summary = element("summary");
    summary.append(element("strong", api.name), element("span", `as ${api.whose}, by ${api.registration}`),
      element("span", api.scopes.join(" ") || "no scopes"), element("span", api.baseUrl || "no BaseUrl"));
    made.append(summary);
    for (const [title, text] of doors(api, state)) made.append(element("h3", title), element("pre", text));
    return made;
  })));
  update("requests", state.requests, (all) =>
    fill(at("requests"), ["Time", "Request", "Status", "Duration", "Correlation id", "What went wrong"], all.map((one) =>
      [one.time, `${one.method} ${one.route}`, element("td", one.status, one.status < 400 ? "good" : "bad"),
        `${one.milliseconds.toFixed(1)} ms`, one.id, one.problem])));
};
const ask = async (token) => {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch("/", { headers, cache: "no-store" });
  const state = await answer.json();
  if (!answer.ok) throw new Error(state.detail || state.title);
  return state;
};
const refresh = () => ask().then(show, (error) => {
  at("state").textContent = error.message;
  at("state").className = "bad";
});
at("judge").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = at("token").value.replace(/^\s*(Authorization:)?\s*(Bearer\s)?/i, "").replace(/\s/g, "");
  if (!token) return;
  const kinds = { passed: "good", FAILED: "bad" };
  ask(token).then(({ checks }) => fill(at("checks"), ["Check", "Outcome", "Looked at", "Expected", "Found"], checks.map((one) =>
    [one.check, element("td", one.outcome, kinds[one.outcome] || "wait"), one.lookedAt, one.expected, one.found])),
  (error) => fill(at("checks"), [error.message], []));
});
refresh();
setInterval(() => document.hidden || refresh(), 3000);
