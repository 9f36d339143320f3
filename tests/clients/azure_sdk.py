"""Azure SDKs against the managed identity endpoint: two variables in the environment, and nothing else of ours."""

import os
import time

import msal
import requests
from azure.core.exceptions import ClientAuthenticationError, ResourceNotFoundError
from azure.identity import CredentialUnavailableError, DefaultAzureCredential, ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
from azure.storage.blob import BlobServiceClient

os.environ |= {"IDENTITY_ENDPOINT": os.environ["SIDECAR"] + "/identity/token", "IDENTITY_HEADER": "any"}
scope, agent = os.environ["APP_SCOPE"], os.environ["AGENT_ID"]
refused = os.environ["OTHER_SCOPE"]
other = requests.get(os.environ["SIDECAR"] + "/AuthorizationHeaderUnauthenticated/reports", timeout=30).json()

token = DefaultAzureCredential().get_token(scope)
assert ManagedIdentityCredential().get_token(scope).token == token.token
assert other["authorizationHeader"] == f"Bearer {token.token}", "another token than through the other door"
print("azure-identity: the application's token, expires in an hour:", 3000 < token.expires_on - time.time() < 3700)

named = ManagedIdentityCredential(client_id=os.environ["CLIENT_ID"]).get_token(scope)
assert named.token == token.token
assert ManagedIdentityCredential(client_id=agent).get_token(scope).token != token.token
print("azure-identity: an agent's own token")

for credential, wanted, said in (
    (ManagedIdentityCredential(), refused, "Sidecar:IdentityEndpoint:Resources"),
    (ManagedIdentityCredential(identity_config={"object_id": agent}), scope, "object_id: expected the identity in client_id"),
):
    try:
        credential.get_token(wanted)
        raise SystemExit(f"{wanted} was given")
    except (ClientAuthenticationError, CredentialUnavailableError) as error:
        assert said in str(error), error
print("azure-identity: refusals in their own words")

client = msal.ManagedIdentityClient(msal.SystemAssignedManagedIdentity(), http_client=requests.Session())
answer = client.acquire_token_for_client(resource=scope.removesuffix("/.default"))
assert answer.get("access_token") == token.token and answer["token_type"] == "Bearer", answer
answer = client.acquire_token_for_client(resource=refused.removesuffix("/.default"))
assert "Sidecar:IdentityEndpoint:Resources" in str(answer), answer
print("msal: the same token, and the same refusal")

# The SDKs call Azure themselves, over https, with the sidecar's token. Both servers verify it.
https, root = os.environ["HTTPS"], os.environ["ROOT"]
credential = DefaultAzureCredential()
container = BlobServiceClient(f"{https}/blob", credential=credential, connection_verify=root).create_container("python")
container.upload_blob("a//b", b"content")
assert container.download_blob("a//b").readall() == b"content"
print("azure-storage-blob: with the token of DefaultAzureCredential:", [blob.name for blob in container.list_blobs()])

# The vault is on this machine, so its host is not that of the resource in its challenge.
vault = SecretClient(https, credential, verify_challenge_resource=False, connection_verify=root)
assert vault.get_secret("client-pem").value.startswith("-----BEGIN")
try:
    vault.get_secret("none")
    raise SystemExit("a secret that is not there was given")
except ResourceNotFoundError as error:
    print("azure-keyvault-secrets: with the token of DefaultAzureCredential, and its error:", error.error.code)
