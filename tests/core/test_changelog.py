"""The log of changes as its followers read it: each change once, whatever the order of the commits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.orm import Session

from app.core import clock
from app.core.changelog import LOG_TAIL, MAX_CHANGES, Follower, LoggedChange, LogPosition, LogRow, tail_of, values_of
from app.core.transactions import run, unit_of_work
from app.extensions import db
from app.features.categories import service as categories
from app.features.categories.models import Category
from app.features.products import bulk
from app.features.products.models import Product
from app.features.stock.service import move_stock
from tests.core.threads import Apart
