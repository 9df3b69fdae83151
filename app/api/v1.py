"""The routes of version 1 of the API: one blueprint per feature."""

from flask import Blueprint

from app.features.api_keys.routes import blueprint as api_keys
from app.features.attributes.routes import blueprint as attributes
from app.features.audit.routes import blueprint as audit
from app.features.auth.routes import blueprint as auth
from app.features.brands.routes import blueprint as brands
from app.features.bulk.routes import blueprint as bulk
from app.features.categories.routes import blueprint as categories
from app.features.events.routes import blueprint as events
from app.features.exports.routes import blueprint as exports
from app.features.facets.routes import blueprint as facets
from app.features.identities.routes import blueprint as identities
from app.features.imports.routes import blueprint as imports
from app.features.jobs.routes import blueprint as jobs
from app.features.media.routes import blueprint as media
from app.features.oauth.routes import blueprint as oauth
from app.features.oauth.routes_page import blueprint as authorize
from app.features.oauth_clients.routes import blueprint as oauth_clients
from app.features.passwords.routes import blueprint as passwords
from app.features.placements.routes import blueprint as placements
from app.features.product_types.routes import blueprint as product_types
from app.features.products.routes import blueprint as products
from app.features.products.routes import in_categories as category_products
from app.features.products.routes import of_types as type_products
from app.features.search_terms.routes import blueprint as search_terms
from app.features.sessions.routes import blueprint as sessions
from app.features.stock.routes import blueprint as stock
from app.features.users.routes import blueprint as users
from app.features.webhooks.routes import blueprint as webhooks

blueprint = Blueprint("v1", __name__, url_prefix="/api/v1")
blueprint.register_blueprint(auth)
blueprint.register_blueprint(sessions)
blueprint.register_blueprint(passwords)
blueprint.register_blueprint(identities)
blueprint.register_blueprint(users)
blueprint.register_blueprint(api_keys)
blueprint.register_blueprint(oauth)
blueprint.register_blueprint(authorize)
blueprint.register_blueprint(oauth_clients)
blueprint.register_blueprint(brands)
blueprint.register_blueprint(categories)
blueprint.register_blueprint(attributes)
blueprint.register_blueprint(product_types)
blueprint.register_blueprint(products)
blueprint.register_blueprint(category_products)
blueprint.register_blueprint(type_products)
blueprint.register_blueprint(placements)
blueprint.register_blueprint(media)
blueprint.register_blueprint(facets)
blueprint.register_blueprint(search_terms)
blueprint.register_blueprint(bulk)
blueprint.register_blueprint(exports)
blueprint.register_blueprint(events)
blueprint.register_blueprint(stock)
blueprint.register_blueprint(imports)
blueprint.register_blueprint(webhooks)
blueprint.register_blueprint(audit)
blueprint.register_blueprint(jobs)
