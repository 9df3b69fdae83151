"""Wire shapes of the page on which people let apps act for them."""

from app.features.auth.schemas import KnownEmail
from app.features.users.schemas import Password
from app.web import fields
from app.web.schemas import FormSchema, ProtocolQuerySchema

#: `authorization` checks the values: what is wrong with them is said to the app, and not to the person.
_ANY = r"^[^\u0000]*$"


def _parameter(note: str, example: str, max_length: int = 2000) -> fields.Text:
    return fields.Text(min_length=0, max_length=max_length, pattern=_ANY, note=note, example=example)


class AuthorizationQuerySchema(ProtocolQuerySchema):
    """An authorization request (RFC 6749 section 4.1.1) with PKCE (RFC 7636). Empty parameters count as missing."""

    client_id = _parameter("The app.", "app_1")
    redirect_uri = _parameter(
        "Where the answer goes: an address that is registered for it.", "https://shop.example/callback"
    )
    response_type = _parameter("Must be `code`.", "code")
    scope = _parameter(
        "What is asked for, separated by blanks; without it, all that the app may ask for.", "products:read"
    )
    state = _parameter("Comes back with the answer.", "af0ifjsldkj")
    code_challenge = _parameter(
        "The SHA-256 of the code verifier, in base64url.", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )
    code_challenge_method = _parameter("Must be `S256`.", "S256")
    prompt = _parameter("With `none` the answer is an error, because people are always asked.", "consent")
    login_hint = _parameter("The e-mail address that the form to log in begins with.", "alice@example.com", 254)


class PageFormSchema(FormSchema):
    """A form of the page. Its token is in the page."""

    csrf_token = fields.Text(min_length=0, max_length=100, pattern=_ANY, load_default="", example="f9rQ0tE2cK4")


class PageLoginSchema(PageFormSchema):
    """The form to log in."""

    email = KnownEmail(required=True, max_length=254, example="editor@example.com")
    password = Password(required=True, min_length=1, example="demo-editor-password")


class DecisionFormSchema(PageFormSchema):
    """The form to allow or deny."""

    decision = fields.Choice(["allow", "deny"], name="AuthorizationDecision", required=True, example="allow")
