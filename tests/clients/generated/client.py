"""Calls a running sidecar with a client that openapi-python-client has made of its OpenAPI document.

Run by scripts/generated-clients.sh, with the generated package `sidecar` beside it.
"""

import os
from http import HTTPStatus
from io import BytesIO
from json import loads

from sidecar import AuthenticatedClient, Client
from sidecar.api.authorization_header_endpoint import authorization_header, authorization_header_unauthenticated
from sidecar.api.downstream_api_endpoint import downstream_api, downstream_api_put
from sidecar.api.managed_identity import managed_identity_token
from sidecar.api.o_auth import o_auth_introspect, o_auth_token
from sidecar.api.validate_request_endpoints import validate_authorization_header
from sidecar.models import (
    AuthorizationHeaderResult,
    DownstreamApiResult,
    IntrospectionResult,
    JsonBody,
    ManagedIdentityError,
    ManagedIdentityToken,
    ManagedIdentityTokenApiVersion,
    OAuthError,
    OAuthIntrospectBody,
    OAuthTokenBody,
    OAuthTokenBodyGrantType,
    OAuthTokenBodySubjectTokenType,
    OAuthTokenResult,
    ProblemDetails,
    ValidateAuthorizationHeaderResult,
)
from sidecar.types import File

SIDECAR, TOKEN, APP_SCOPE = os.environ["SIDECAR"], os.environ["TOKEN"], os.environ["APP_SCOPE"]

anonymous = Client(base_url=SIDECAR)
alice = AuthenticatedClient(base_url=SIDECAR, token=TOKEN)


def expect(found, kind):
    assert isinstance(found, kind), found
    return found


validated = expect(validate_authorization_header.sync(client=alice), ValidateAuthorizationHeaderResult)
assert validated.token == TOKEN and validated.claims["name"], validated

header = expect(authorization_header.sync("orders", client=alice), AuthorizationHeaderResult)
assert header.authorization_header.startswith("Bearer ey")

# Overrides are arguments, with types of their own.
header = authorization_header_unauthenticated.sync(
    "orders",
    client=anonymous,
    options_override_scopes=[APP_SCOPE],
    options_override_request_app_token=True,
    options_override_acquire_token_options_force_refresh=True,
)
expect(header, AuthorizationHeaderResult)

result = expect(downstream_api.sync("orders", client=alice, body=JsonBody.from_dict({"quantity": 3})), DownstreamApiResult)
assert result.status_code == 200 and loads(loads(result.content)["body"]) == {"quantity": 3}, result
upload = File(payload=BytesIO(b"\x00\xff"), mime_type="application/octet-stream")
result = expect(downstream_api_put.sync("orders", client=alice, body=upload), DownstreamApiResult)
assert loads(result.content)["method"] == "PUT", result

answer = authorization_header_unauthenticated.sync_detailed("no-such-api", client=anonymous)
problem = expect(answer.parsed, ProblemDetails)
assert answer.status_code == HTTPStatus.NOT_FOUND and problem.detail == "Downstream API 'no-such-api' not configured"
refused = authorization_header_unauthenticated.sync("orders", client=anonymous, options_override_scopes=["api://nobody/.default"])
problem = expect(refused, ProblemDetails)
assert problem.extensions.error_code == "invalid_resource" and problem.extensions.error_codes == [500011], problem

grant = OAuthTokenBody(grant_type=OAuthTokenBodyGrantType.CLIENT_CREDENTIALS)
issued = expect(o_auth_token.sync("reports", client=anonymous, body=grant), OAuthTokenResult)
assert issued.expires_in > 3000 and issued.scope == APP_SCOPE, issued
exchange = OAuthTokenBody(
    grant_type=OAuthTokenBodyGrantType.URNIETFPARAMSOAUTHGRANT_TYPETOKEN_EXCHANGE,
    subject_token=TOKEN,
    subject_token_type=OAuthTokenBodySubjectTokenType.URNIETFPARAMSOAUTHTOKEN_TYPEACCESS_TOKEN,
)
expect(o_auth_token.sync("orders", client=anonymous, body=exchange), OAuthTokenResult)
exchange.subject_token = "none"
assert expect(o_auth_token.sync("orders", client=anonymous, body=exchange), OAuthError).error == "invalid_request"

told = expect(o_auth_introspect.sync(client=anonymous, body=OAuthIntrospectBody(token=TOKEN)), IntrospectionResult)
assert told.active and told.additional_properties["oid"], told
told = expect(o_auth_introspect.sync(client=anonymous, body=OAuthIntrospectBody(token="none")), IntrospectionResult)
assert not told.active, told


def identity(resource):
    return managed_identity_token.sync(
        client=anonymous,
        resource=resource,
        api_version=ManagedIdentityTokenApiVersion.VALUE_0,
        x_identity_header="any",
    )


resource = APP_SCOPE.removesuffix("/.default")
assert expect(identity(resource), ManagedIdentityToken).resource == resource
assert "Sidecar:IdentityEndpoint:Resources" in expect(identity("https://vault.example"), ManagedIdentityError).message

print("openapi-python-client: every call answered in its type")
