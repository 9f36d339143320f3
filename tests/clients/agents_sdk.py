"""Microsoft's Agents SDK client against the sidecar: tokens, and the exception for each kind of failure.

The package says (errors/, sidecar_http_client.py): 404 is a configuration error, 401 an authentication error, 400 a
ValueError, and 408, 429 and 5xx after its retries mean that the sidecar is unavailable.
"""

import asyncio
import os
import urllib.request

import jwt
from microsoft_agents.authentication.entra_auth_sidecar import (
    SidecarAuth,
    SidecarAuthError,
    SidecarConfigurationError,
    SidecarUnavailableError,
)

environment = os.environ
TENANT_ID, AGENT_ID = environment["TENANT_ID"], environment["AGENT_ID"]
USERNAME, USER_ID = environment["AGENT_USERNAME"], environment["AGENT_USER_ID"]
SCOPE, APP_SCOPE = environment["SCOPE"], environment["APP_SCOPE"]


def sidecar(url=None, **settings):
    base = {"SIDECAR_BASE_URL": url or environment["SIDECAR"], "CLIENTID": environment["CLIENT_ID"], "RETRY_COUNT": 0}
    return SidecarAuth({**base, "SCOPES": [APP_SCOPE], **settings})


def claims(token):
    return jwt.decode(token, options={"verify_signature": False})


def control(method, path):
    """Tells the stand-in for Entra how to behave."""
    request = urllib.request.Request(f"{environment['TENANT']}/_control/{path}", method=method)
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()


async def tokens():
    client = sidecar()
    assert await client.is_healthy()
    application = claims(await client.get_access_token("", [APP_SCOPE]))
    assert application["idtyp"] == "app" and application["azp"] == environment["CLIENT_ID"], application
    agent = claims((await client.get_agentic_instance_token(TENANT_ID, AGENT_ID))[0])
    assert agent["idtyp"] == "app" and agent["azp"] == AGENT_ID, agent
    for user in (USERNAME, USER_ID):
        of_user = claims(await client.get_agentic_user_token(TENANT_ID, AGENT_ID, user, [SCOPE]))
        assert (of_user["oid"], of_user["azp"], of_user["scp"]) == (USER_ID, AGENT_ID, "read"), of_user
    blueprint = claims(await client.get_agentic_application_token(TENANT_ID, AGENT_ID))
    assert blueprint["idtyp"] == "app", blueprint
    # From the sidecar's cache to begin with, and a new one where it is asked for.
    again = sidecar()
    first = await again.get_access_token("", [APP_SCOPE])
    assert claims(first) == application
    assert await again.get_access_token("", [APP_SCOPE], force_refresh=True) != first
    credential = sidecar().get_token_credential()
    assert (await credential.get_token(APP_SCOPE)).token
    await asyncio.gather(client.close(), again.close())


async def failure(kind, expected, call, client=None, **settings):
    client = client or sidecar(**settings)
    try:
        await call(client)
    except kind as error:
        # `SidecarAuthError` is the base of the others, so that only the class itself says which it is.
        assert type(error) is kind and expected in str(error), f"{type(error).__name__}: {error}"
    else:
        raise AssertionError(f"{kind.__name__} was expected")
    finally:
        await client.close()


async def failures():
    def application(client):
        return client.get_access_token("", [APP_SCOPE])

    await failure(SidecarConfigurationError, "404: Not Found", application, SERVICE_NAME="no-such-api")
    await failure(
        SidecarAuthError,
        "401: Unauthorized",
        lambda client: client.get_agentic_application_token(TENANT_ID, AGENT_ID),
        BLUEPRINT_SERVICE_NAME="session",
    )
    await failure(ValueError, "400: Bad Request", lambda client: client.get_access_token("", [SCOPE]))
    await failure(ValueError, "400", lambda client: client.get_agentic_instance_token("not a tenant", AGENT_ID))
    stranger = "00000000-0000-4000-8000-000000000000"
    # Entra's refusal is a 500, which the client takes for an outage, as it does with the sidecar it was made for.
    await failure(
        SidecarUnavailableError,
        "HTTP 500",
        lambda client: client.get_agentic_user_token(TENANT_ID, AGENT_ID, stranger, [SCOPE]),
    )
    control("POST", "faults?kind=token&cut=answer&times=1000000")
    new = [environment["GRAPH_SCOPE"]]
    await failure(SidecarUnavailableError, "HTTP 503", lambda client: client.get_access_token("", new))
    control("DELETE", "faults")
    await failure(SidecarUnavailableError, "", application, client=sidecar("http://127.0.0.1:1"))
    assert not await sidecar("http://127.0.0.1:1").is_healthy()


async def retries():
    """An outage that ends while the client still tries is none to the agent."""
    control("POST", "faults?kind=token&cut=answer&times=2")
    client = sidecar(RETRY_COUNT=1)
    client._sidecar_client._retry_backoff_base = 0
    token = await client.get_access_token("", [environment["OTHER_SCOPE"]])
    assert claims(token)["idtyp"] == "app"
    await client.close()


async def main():
    await tokens()
    await failures()
    await retries()
    print("the Agents SDK client: tokens, failures and retries as its documentation says")


asyncio.run(main())
