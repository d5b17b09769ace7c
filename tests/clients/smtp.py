"""A mail server that prints each mail that it gets as a line of JSON.

smtp.py PORT CERT KEY: says hello, has STARTTLS, and lets in user "user" with password "secret".
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class Print:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = {
            part.get_content_type(): part.get_content()
            for part in mail.walk()
            if not part.is_multipart()
        }
        headers = {name: str(value) for name, value in mail.items()}
        print(json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "hello": session.host_name,
            "tls": session.ssl is not None,
            "login": session.auth_data,
            "headers": headers,
            "parts": parts,
        }), flush=True)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    login, password = data.login.decode(), data.password.decode()
    is_right = (login, password) == ("user", "secret")
    return AuthResult(success=is_right, auth_data=f"{mechanism} {login}")


def main():
    port, cert, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    controller = Controller(
        Print(),
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        authenticator=authenticate,
        auth_require_tls=True,
    )
    controller.start()
    print("ready", flush=True)
    asyncio.new_event_loop().run_forever()


main()
