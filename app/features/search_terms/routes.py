"""Routes of search terms."""

from sqlalchemy import Select

from app.features.search_terms import service
from app.features.search_terms.models import SearchTerm
from app.features.search_terms.schemas import SearchTermQuerySchema, SearchTermSchema
from app.security.permissions import Permission
from app.web.contract import Blueprint, lists, requires

blueprint = Blueprint(
    "search_terms", __name__, url_prefix="/search-terms", about="What people search for, and do not find."
)


@blueprint.get("")
@requires(Permission.SEARCH_TERMS_READ)
@lists(SearchTermSchema, SearchTermQuerySchema, service.LISTING)
def list_search_terms() -> Select[SearchTerm]:
    """List what products were searched for in each of the last eight weeks.

    A term is there from its second search in a week on, and about half a minute after it. Searches count by their first
    page; those with something like an e-mail address, a URL, a token, a word after "password", or seven digits or more
    that no word of two letters or more separates do not count. A name cannot be recognised, and a term may stem from
    one person who searched twice.
    """
    return service.all_terms()
