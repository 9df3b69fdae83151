"""The table of published resources: one line per model in the change feed."""

from app.features.brands import service as brands
from app.features.brands.models import Brand
from app.features.brands.schemas import BrandSchema
from app.features.categories import service as categories
from app.features.categories.models import Category
from app.features.categories.schemas import CategorySchema
from app.features.products import service as products
from app.features.products.models import Product
from app.features.products.schemas import ProductSchema
from app.security.permissions import Permission
from app.web.resources import Resource

RESOURCES = (
    Resource(Product, ProductSchema, Permission.PRODUCTS_READ, products.visible_to),
    Resource(Category, CategorySchema, Permission.CATEGORIES_READ, categories.visible_to),
    Resource(Brand, BrandSchema, Permission.BRANDS_READ, brands.visible_to),
)
