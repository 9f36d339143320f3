"""Microsoft's Agents SDK with this sidecar: tokens of the application, of an agent and of an agent's user account."""

import asyncio
import os

import jwt
from microsoft_agents.authentication.entra_auth_sidecar import SidecarAuth

SETTINGS = {
    # The port of the SDK's default is 5178; this sidecar listens at 5000 unless told otherwise.
    "SIDECAR_BASE_URL": os.environ.get("SIDECAR", "http://127.0.0.1:5000"),
    "CLIENTID": os.environ["CLIENT_ID"],
    # Of the agent's own tokens. The application and users name theirs with each call.
    "SCOPES": [os.environ["APP_SCOPE"]],
}


def show(what, token):
    claims = jwt.decode(token, options={"verify_signature": False})
    user = f", user {claims['oid']}, scopes {claims['scp']}" if "scp" in claims else ""
    print(f"{what}: token of {claims.get('azp') or claims['appid']} for {claims['aud']}{user}")


async def main():
    tenant, agent, user = (os.environ[name] for name in ("TENANT_ID", "AGENT_ID", "AGENT_USERNAME"))
    sidecar = SidecarAuth(SETTINGS)
    try:
        print("healthy:", await sidecar.is_healthy())
        show("application", await sidecar.get_access_token("", [os.environ["APP_SCOPE"]]))
        token, _ = await sidecar.get_agentic_instance_token(tenant, agent)
        show("agent", token)
        show("agent user", await sidecar.get_agentic_user_token(tenant, agent, user, [os.environ["SCOPE"]]))
        show("blueprint", await sidecar.get_agentic_application_token(tenant, agent))
    finally:
        await sidecar.close()


asyncio.run(main())
