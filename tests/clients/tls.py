"""https in front of an http server, with the test certificates: prints its port, then passes bytes both ways until it is ended.

tls.py HOST:PORT
"""

import asyncio
import ssl
import sys
from pathlib import Path

certificates = Path(__file__).parent.parent / "data" / "tls"
host, port = sys.argv[1].split(":")


async def copy(reader, writer):
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(reader, writer):
    server = await asyncio.open_connection(host, int(port))
    await asyncio.gather(copy(reader, server[1]), copy(server[0], writer))


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print("port", listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


asyncio.run(main())
