"""LangChain's chat models for OpenAI and Azure OpenAI through the pass-through."""

import os
from importlib.metadata import version

import openai
from langchain_openai import AzureChatOpenAI, ChatOpenAI

sidecar, application = os.environ["SIDECAR"], os.environ["CLIENT_ID"]
print("version: langchain-openai", version("langchain-openai"))

chat = ChatOpenAI(base_url=f"{sidecar}/ProxyUnauthenticated/openai/openai/v1", api_key="unused", model="gpt-4o", max_retries=0)
azure = AzureChatOpenAI(
    azure_endpoint=f"{sidecar}/ProxyUnauthenticated/openai", api_key="unused", azure_deployment="gpt-4o", api_version="2024-10-21")
user = ChatOpenAI(base_url=f"{sidecar}/Proxy/openai/openai/v1", api_key=os.environ["TOKEN"], model="gpt-4o")
for model, who in ((chat, application), (azure, application), (user, "alice@contoso.onmicrosoft.com")):
    assert model.invoke("Where?").content == f"{who} asked: Where?"
    pieces = [piece.content for piece in model.stream("Where?") if piece.content]
    assert "".join(pieces) == f"{who} asked: Where?" and len(pieces) == 3, pieces
print("langchain-openai: whole and streamed, for the application and for a user")

try:
    chat.model_copy(update={"model_name": "no-such-model"}).invoke("Where?")
    raise SystemExit("the unknown model answered")
except openai.NotFoundError as error:
    assert error.code == "DeploymentNotFound", error
print("langchain-openai: an error of the API")
