"""The Flask extensions, created unbound; the factory binds them to an application."""

from typing import TYPE_CHECKING

from flask_caching import Cache
from flask_cors import CORS
from flask_jwt_extended import JWTManager
from flask_sock import Sock
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, registry

# Constraints are named so that migrations can drop them and refusals can recognise them on every database.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The declarative base of every model."""

    # A registry set here, and not a metadata attribute, survives Flask-SQLAlchemy's rebuilding of the class.
    registry = registry(metadata=MetaData(naming_convention=NAMING_CONVENTION))


db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False, "autoflush": False})
jwt = JWTManager()
cache = Cache()
cors = CORS()
sockets = Sock()

if TYPE_CHECKING:
    # Flask-SQLAlchemy makes its Model at run time, which a type checker cannot follow.
    Model = Base
else:
    Model = db.Model
