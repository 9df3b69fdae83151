"""The WSGI entry: configuration from the environment, one application, named ``app``."""

import sys

from app import create_app
from config import Config, ConfigError

try:
    app = create_app(Config.from_environment())
except ConfigError as error:
    sys.exit(f"catalog-api: {error}")
