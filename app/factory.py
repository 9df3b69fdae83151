"""create_app: the one place where the application is put together."""

from collections.abc import Mapping, Sequence

from flask import Flask

from app import cli
from app.api import v1
from app.api.resources import RESOURCES
from app.clients import broker, mail, object_store, oidc, outbound
from app.core import tracing
from app.core.connections import set_up_engine
from app.core.jobs import Task
from app.extensions import cache, db, jwt
from app.features.auth.service import load_identity, mark_seen
from app.features.events import broadcast
from app.features.events.live import PROTOCOL
from app.features.jobs import routes as jobs
from app.features.monitoring.collector import DatabaseCollector
from app.features.oauth import metadata as oauth_metadata
from app.features.oauth import routes as oauth
from app.features.search_terms import counting as search_terms
from app.security.keys import make_ring
from app.web import (
    access,
    cookies,
    cors,
    demo,
    deprecated_calls,
    errors,
    health,
    hooks,
    keys,
    limits,
    media_files,
    migrations,
    monitoring,
    proxies,
    readiness,
    reference,
    resources,
    routing,
    searches,
    sockets,
)
from app.web.body import OrjsonProvider
from app.web.demo import DemoLogin
from app.web.logs import set_up_logs
from config import SESSION_SETTINGS, VERSION, Config, Environment, Pooling


def create_app(config: Config | str | None = None) -> Flask:
    """An application with these settings: a ``Config``, the name of an environment, or those of the environment."""
    if not isinstance(config, Config):
        config = Config.named(config) if config else Config.from_environment()
    set_up_logs(level=config.log_level, as_json=config.app_env is Environment.PRODUCTION)
    tracing.set_up(config.otel_exporter_otlp_endpoint, version=VERSION)

    app = Flask(__name__.partition(".")[0], static_folder=None)
    app.config.from_mapping(config.for_flask())
    app.json = OrjsonProvider(app)
    ring = make_ring(
        secret=config.jwt_secret_key,
        previous_secrets=config.jwt_previous_secret_keys,
        key_files=config.jwt_key_files,
    )

    routing.init_app(app)
    proxies.init_app(app)
    hooks.init_app(app)
    errors.init_app(app)
    monitoring.init_app(app)
    limits.init_app(app)
    cookies.init_app(app)
    cors.init_app(app, origins=config.browser_origins)
    access.init_app(app, load_identity=load_identity, mark_seen=mark_seen)
    resources.init_app(app, RESOURCES)
    searches.init_app(app)
    search_terms.init_app(app)
    demo.init_app(app, find_logins=_find_demo_logins if config.app_env is Environment.DEVELOPMENT else None)
    mail.init_app(app)
    broker.init_app(app)
    outbound.init_app(app)
    oidc.init_app(app)
    object_store.init_app(app)
    jobs.init_app(app, find_tasks=_find_tasks)
    keys.init_app(app, ring)
    oauth.init_app(app, ring)
    jwt.init_app(app)
    cache.init_app(app)
    db.init_app(app)
    migrations.init_app(app)
    sockets.init_app(app, protocol=PROTOCOL)
    broadcast.init_app(app)
    readiness.init_app(app)
    monitoring.register_collector(app, DatabaseCollector(app.app_context))
    with app.app_context():
        set_up_engine(
            db.engine,
            session_settings=SESSION_SETTINGS,
            is_pooled_by_transaction=config.database_pooling is Pooling.TRANSACTION,
        )

    app.register_blueprint(v1.blueprint)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(monitoring.blueprint)
    app.register_blueprint(keys.blueprint)
    app.register_blueprint(oauth_metadata.blueprint)
    app.register_blueprint(reference.blueprint)
    app.register_blueprint(media_files.blueprint)
    deprecated_calls.init_app(app)
    cli.init_app(app)
    return app


def _find_demo_logins() -> Sequence[DemoLogin]:
    # Not at the top: production never needs the sample catalogue.
    from app.features.samples.service import working_logins  # noqa: PLC0415

    return working_logins()


def _find_tasks() -> Mapping[str, Task]:
    # Not at the top: a server runs no jobs, and hardly ever retries or cancels one.
    from app.api.tasks import TASKS  # noqa: PLC0415

    return TASKS
