"""OpenAI's SDK through the pass-through: a base URL and any key, or the user's token for a key."""

import os
import time

import openai
import requests
from openai import AzureOpenAI, OpenAI
from websockets.exceptions import InvalidStatus

sidecar, tenant, token = (os.environ[name] for name in ("SIDECAR", "TENANT", "TOKEN"))
application, agent = os.environ["CLIENT_ID"], os.environ["AGENT_ID"]
question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is the ünïcode?"}]


def client(route="ProxyUnauthenticated", key="unused", **more):
    return OpenAI(base_url=f"{sidecar}/{route}/openai/openai/v1", api_key=key, max_retries=0, **more)


def ask(client, model="gpt-4o"):
    return client.chat.completions.create(model=model, messages=question).choices[0].message.content


def read(client, model="gpt-4o"):
    """The pieces of a streamed answer and when each came."""
    stream = client.chat.completions.create(model=model, messages=question, stream=True)
    return [(chunk.choices[0].delta.content, time.monotonic()) for chunk in stream if chunk.choices and chunk.choices[0].delta.content]


def error(wanted, call):
    try:
        call()
    except wanted as error:
        return error
    raise SystemExit(f"{wanted.__name__} was not raised")


def answer(who):
    return f"{who} asked: Where is the ünïcode?"


print(f"version: openai {openai.__version__}")
assert ask(client()) == answer(application)
print("openai: a completion for the application")

pieces = read(client())
assert "".join(text for text, _ in pieces) == answer(application) and len(pieces) == 6, pieces
pieces = read(client(), "gpt-4o-slow")
# The API lets a quarter of a second pass before each piece.
assert pieces[-1][1] - pieces[0][1] > 0.6, pieces
print("openai: a stream, piece by piece as it comes")

assert ask(client("Proxy", token)) == answer("alice@contoso.onmicrosoft.com")
assert "".join(text for text, _ in read(client("Proxy", token))) == answer("alice@contoso.onmicrosoft.com")
print("openai: for a user, whose token is the key")

options = {"X-Sidecar-Options": f"AgentIdentity={agent}"}
assert ask(client(default_headers=options)) == answer(agent)
options = {"X-Sidecar-Options": f"AgentIdentity={agent}&AgentUsername={os.environ['AGENT_USERNAME']}"}
assert ask(client(default_headers=options)) == answer("agent-user@contoso.onmicrosoft.com")
print("openai: for an agent and its user, in X-Sidecar-Options")

raised = error(openai.NotFoundError, lambda: ask(client(), "no-such-model"))
assert raised.code == "DeploymentNotFound" and "x-sidecar-error" not in raised.response.headers, raised
raised = error(openai.BadRequestError, lambda: client().chat.completions.create(model="gpt-4o", messages=[]))
assert raised.code == "invalid_type" and raised.param == "messages", raised
raised = error(openai.RateLimitError, lambda: ask(client(), "gpt-4o-busy"))
assert raised.response.headers["retry-after"] == "1" and raised.request_id is None, raised
raised = error(openai.RateLimitError, lambda: read(client(), "gpt-4o-busy"))
print("openai: errors of the API in their own classes")

# Told by X-Sidecar-Error, and not asked for again where that cannot help.
patient = client("Proxy", "no-token").with_options(max_retries=5)
raised = error(openai.AuthenticationError, lambda: ask(patient))
assert raised.response.headers["x-sidecar-error"] == "1" and "Bearer" in raised.response.headers["www-authenticate"], raised
nowhere = OpenAI(base_url=f"{sidecar}/ProxyUnauthenticated/no-such-api/v1", api_key="unused")
raised = error(openai.NotFoundError, lambda: ask(nowhere))
assert raised.response.headers["x-sidecar-error"] == "1" and "'no-such-api' not configured" in raised.body["detail"], raised
print("openai: errors of the sidecar in the same classes")


def fault(**what):
    requests.post(f"{tenant}/_control/faults", params={"kind": "openai", **what}, timeout=30).raise_for_status()


fault(status=503)
assert ask(client().with_options(max_retries=1)) == answer(application)
fault(truncate=1200)
error(openai.APIConnectionError, lambda: read(client()))
print("openai: its own retries, and a stream that breaks off is an error")

assert error(InvalidStatus, lambda: client().realtime.connect(model="gpt-realtime").enter()).response.status_code == 501
print("openai: no WebSocket, and told so")

azure = AzureOpenAI(azure_endpoint=f"{sidecar}/ProxyUnauthenticated/openai", api_key="unused", api_version="2024-10-21", max_retries=0)
assert ask(azure) == answer(application)
assert "".join(text for text, _ in read(azure)) == answer(application)
assert error(openai.NotFoundError, lambda: ask(azure, "no-such-model")).code == "DeploymentNotFound"
azure = AzureOpenAI(azure_endpoint=f"{sidecar}/Proxy/openai", azure_ad_token_provider=lambda: token, api_version="2024-10-21")
assert ask(azure) == answer("alice@contoso.onmicrosoft.com")
print("AzureOpenAI: whole, streamed, an error, for a user")
