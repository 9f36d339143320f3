"""OAuth's client libraries at the sidecar: tokens by both grants, the API that takes them, and introspection."""

import os

from authlib.integrations.requests_client import OAuth2Session as Authlib
from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session as RequestsOAuthlib

SIDECAR, API, TOKEN = (os.environ[name] for name in ("SIDECAR", "API", "TOKEN"))
SCOPE, APP_SCOPE = os.environ["SCOPE"], os.environ["APP_SCOPE"]
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"

for method in ("client_secret_basic", "client_secret_post"):
    client = Authlib("any", "any+%:thing", scope=APP_SCOPE, token_endpoint_auth_method=method)
    client.fetch_token(f"{SIDECAR}/oauth2/token/reports", grant_type="client_credentials")
    print("authlib, application:", client.get(API).status_code)

token = client.fetch_token(f"{SIDECAR}/oauth2/token/orders", grant_type=EXCHANGE, subject_token=TOKEN, subject_token_type=ACCESS_TOKEN,
                           scope=SCOPE)
print("authlib, user:", client.get(API).status_code, token["scope"] == SCOPE)
print("authlib, introspection:", client.introspect_token(f"{SIDECAR}/oauth2/introspect", token=TOKEN).json()["active"],
      client.introspect_token(f"{SIDECAR}/oauth2/introspect", token=TOKEN[:-2]).json())

# It raises where the scopes that come back are not those that it asked for.
client = RequestsOAuthlib(client=BackendApplicationClient("any", scope=[APP_SCOPE]), scope=[APP_SCOPE])
client.fetch_token(f"{SIDECAR}/oauth2/token/reports", client_secret="any")
print("requests-oauthlib:", client.get(API).status_code)
