"""What msgraph-sdk is made of, msgraph-core and kiota, through the pass-through. The SDK itself is
half a gigabyte of generated models; those below are written as its generator writes them."""

import asyncio
import os
from dataclasses import dataclass, field

import msgraph_core
from kiota_abstractions.api_error import APIError
from kiota_abstractions.authentication import AnonymousAuthenticationProvider
from kiota_abstractions.method import Method
from kiota_abstractions.request_information import RequestInformation
from kiota_abstractions.serialization import Parsable, ParseNodeFactoryRegistry
from kiota_serialization_json.json_parse_node_factory import JsonParseNodeFactory
from msgraph_core import BaseGraphRequestAdapter

sidecar = os.environ["SIDECAR"]
ParseNodeFactoryRegistry().CONTENT_TYPE_ASSOCIATED_FACTORIES["application/json"] = JsonParseNodeFactory()


@dataclass
class User(Parsable):
    id: str | None = None
    user_principal_name: str | None = None

    @staticmethod
    def create_from_discriminator_value(node):
        return User()

    def get_field_deserializers(self):
        return {
            "id": lambda node: setattr(self, "id", node.get_str_value()),
            "userPrincipalName": lambda node: setattr(self, "user_principal_name", node.get_str_value()),
        }

    def serialize(self, writer):
        raise NotImplementedError


@dataclass
class Users(Parsable):
    odata_next_link: str | None = None
    value: list[User] = field(default_factory=list)

    @staticmethod
    def create_from_discriminator_value(node):
        return Users()

    def get_field_deserializers(self):
        return {
            "@odata.nextLink": lambda node: setattr(self, "odata_next_link", node.get_str_value()),
            "value": lambda node: setattr(self, "value", node.get_collection_of_object_values(User)),
        }

    def serialize(self, writer):
        raise NotImplementedError


@dataclass
class ODataError(APIError, Parsable):
    code: str | None = None

    @staticmethod
    def create_from_discriminator_value(node):
        return ODataError()

    def get_field_deserializers(self):
        return {"error": lambda node: setattr(self, "code", node.get_child_node("code").get_str_value())}

    def serialize(self, writer):
        raise NotImplementedError


ERRORS = {"4XX": ODataError, "5XX": ODataError}


def adapter(route):
    made = BaseGraphRequestAdapter(AnonymousAuthenticationProvider())
    made.base_url = f"{sidecar}/{route}/graph/v1.0"
    return made


def request(template, headers=(), **parameters):
    asked = RequestInformation(Method.GET, "{+baseurl}" + template, parameters)
    for name, value in headers:
        asked.headers.add(name, value)
    return asked


async def main():
    print("version: msgraph-core", msgraph_core.__version__)
    graph = adapter("ProxyUnauthenticated")
    chosen = {"%24top": 3, "%24select": ["id", "userPrincipalName"]}
    page = await graph.send_async(request("/users{?%24top,%24select}", **chosen), Users, ERRORS)
    assert len(page.value) == 3, page
    one = await graph.send_async(request("/users/{id}", id=page.value[1].id), User, ERRORS)
    assert one.user_principal_name == page.value[1].user_principal_name
    bearer = ("Authorization", f"Bearer {os.environ['TOKEN']}")
    me = await adapter("Proxy").send_async(request("/me", [bearer]), User, ERRORS)
    assert me.user_principal_name == "alice@contoso.onmicrosoft.com"
    print("msgraph-core: a page, a user, and the caller")

    # As it stands the link leads to Graph itself, where no token is added.
    names = {user.user_principal_name for user in page.value}
    while page.odata_next_link:
        follow = RequestInformation(Method.GET)
        follow.url = page.odata_next_link.replace("https://graph.microsoft.com/v1.0", graph.base_url)
        page = await graph.send_async(follow, Users, ERRORS)
        names |= {user.user_principal_name for user in page.value}
    assert len(names) == 7, names
    print("msgraph-core: every page, with the sidecar's address put into the link")

    try:
        await graph.send_async(request("/users/{id}", id="nobody"), User, ERRORS)
        raise SystemExit("nobody was found")
    except ODataError as error:
        assert (error.response_status_code, error.code) == (404, "Request_ResourceNotFound"), error
    try:
        await adapter("Proxy").send_async(request("/me", [("Authorization", "Bearer none")]), User, ERRORS)
        raise SystemExit("no token was good enough")
    except APIError as error:
        assert error.response_status_code == 401, error
    print("msgraph-core: errors of the API and of the sidecar")


asyncio.run(main())
