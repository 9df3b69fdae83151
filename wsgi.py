"""The WSGI entry point: ``app`` is the application, configured by environment variables."""

import sys

from app import create_app
from config import Config, ConfigError

try:
    app = create_app(Config.from_environment())
except ConfigError as error:
    sys.exit(f"catalog-api: {error}")
