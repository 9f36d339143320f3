"""A web API's work with the sidecar: who is calling, and another API on behalf of that user."""

import json
import os
import sys

import requests

SIDECAR = os.environ.get("SIDECAR", "http://127.0.0.1:5000")

# One session: its connections are kept, and no proxy of the machine stands before the sidecar.
session = requests.Session()
session.trust_env = False


class SidecarProblem(Exception):
    """What the sidecar answered instead (RFC 9457)."""

    def __init__(self, response):
        problem = response.json()
        super().__init__(f"{problem['status']} {problem.get('detail', problem['title'])}")
        self.status = problem["status"]
        self.extensions = problem.get("extensions", {})


def ask(method, path, authorization=None, **arguments):
    headers = {"Authorization": authorization} if authorization else {}
    headers.update(arguments.pop("headers", {}))
    response = session.request(method, SIDECAR + path, headers=headers, timeout=30, **arguments)
    if not response.ok:
        raise SidecarProblem(response)
    return response.json()


def caller(authorization):
    """The claims of whoever sent this `Authorization` header to us."""
    return ask("GET", "/Validate", authorization)["claims"]


def orders(authorization):
    """The user's orders. The sidecar exchanges the user's token for one of that API."""
    overrides = {"optionsOverride.RelativePath": "open?$top=3"}
    answer = ask("GET", "/DownstreamApi/orders", authorization, params=overrides)
    if answer["statusCode"] != 200:
        raise RuntimeError(f"orders answered {answer['statusCode']}")
    return json.loads(answer["content"])


def upload(authorization, name, content):
    """Bytes go through as they are; the method is the one that is used here."""
    overrides = {"optionsOverride.RelativePath": f"files/{name}"}
    headers = {"Content-Type": "application/octet-stream"}
    answer = ask("PUT", "/DownstreamApi/orders", authorization, params=overrides, headers=headers, data=content)
    return answer["statusCode"]


def main():
    authorization = f"Bearer {os.environ['TOKEN']}"
    print("caller:", caller(authorization)["preferred_username"])
    print("orders:", orders(authorization)["path"])
    print("upload:", upload(authorization, "a.bin", bytes(range(256))))
    header = ask("GET", "/AuthorizationHeader/orders", authorization)["authorizationHeader"]
    print("header:", header.split(".")[0] + "...")
    try:
        caller("Bearer not-a-token")
    except SidecarProblem as problem:
        print("problem:", problem)


if __name__ == "__main__":
    sys.exit(main())
